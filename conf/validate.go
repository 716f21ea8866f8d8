package conf

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/handler/accesslog"
	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/relay"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/resolver/strict"
)

// Validate reports every value that cannot be used, by its key.
func (c *Config) Validate() error {
	var p problems
	c.validateListeners(&p)
	if c.Admin.Address != None {
		if err := admin.ValidateAddress(c.Admin.Address, c.Admin.Token); err != nil {
			p.check(false, "%w", err)
		}
	}
	p.check(c.Admin.MaxConnections >= 0, "admin.max_connections: %d, want 0 (%d) or more", c.Admin.MaxConnections, admin.DefaultMaxConnections)
	p.duration("routes.reload_interval", c.Routes.ReloadInterval, minReloadInterval)
	c.validateEtcd(&p)
	c.validateServices(&p)
	p.within("upstream", c.Upstream.Validate())
	p.within("upstream.peer_limits", c.Upstream.PeerLimits.Validate(c.Upstream.MaxHeaderBytes))
	least := h2.LeastUnread(c.MaxHeaderBytes())
	unread := c.Upstream.PeerLimits.UnreadBytes
	p.check(unread == 0 || unread >= least, "upstream.peer_limits.unread_bytes: %d, want at least %d: twice the max_header_bytes of listeners, whose calls are sent there", unread, least)
	p.check(c.Limits.MaxHops >= 0 && c.Limits.MaxHops <= 100, "limits.max_hops: %d, want 0 (not counted) to 100", c.Limits.MaxHops)
	p.check(c.Limits.MaxMessageBytes >= 0 && c.Limits.MaxMessageBytes <= 1<<32-1, "limits.max_message_bytes: %d, want 0 (no limit) to %d", c.Limits.MaxMessageBytes, int64(1<<32-1))
	p.check(c.Limits.MaxDecodedBytes == 0 || c.Limits.MaxDecodedBytes >= budget.MinBytes, "limits.max_decoded_bytes: %d, want 0 (a quarter of the memory) or at least %d", c.Limits.MaxDecodedBytes, budget.MinBytes)
	p.check(c.Limits.MaxBufferedBytes >= minBuffered, "limits.max_buffered_bytes: %d, want at least %d", c.Limits.MaxBufferedBytes, minBuffered)
	p.check(c.Limits.MaxHealthWatches >= 0, "limits.max_health_watches: %d, want 0 (no bound) or more", c.Limits.MaxHealthWatches)
	p.check(c.Mirrors.MaxCalls >= 0, "mirrors.max_calls: %d, want 0 (no bound) or more", c.Mirrors.MaxCalls)
	for i, name := range c.Compression {
		p.check(encodingName.MatchString(name), "compression[%d]: %q, want the name of a grpc-encoding such as br", i, name)
	}
	c.validateRegister(&p)
	keep := c.Services.KeepOnLoss
	p.check(keep == 0 || keep >= time.Second && keep <= maxKeepOnLoss, "services.keep_on_loss: %s, want 0s (never) or 1s to %s", keep, maxKeepOnLoss)
	p.duration("drain.delay", c.Drain.Delay, 0)
	p.duration("drain.timeout", c.Drain.Timeout, minTimeout)
	p.duration("drain.endpoint_timeout", c.Drain.EndpointTimeout, minTimeout)
	p.check(new(slog.Level).UnmarshalText([]byte(c.Log.Level)) == nil, "log.level: %q, want debug, info, warn or error", c.Log.Level)
	p.check(c.Log.Format == "text" || c.Log.Format == "json", "log.format: %q, want text or json", c.Log.Format)
	p.check(c.AccessLog.Path != "", "access_log.path: empty, want a file, stdout, stderr or none")
	p.within("access_log", accesslog.Config{Sample: c.AccessLog.Sample}.Validate())
	if c.Tracing.Endpoint != "" {
		p.within("tracing", c.Tracing.Tracer().Validate())
	}
	return errors.Join(p...)
}

type problems []error

func (p *problems) check(ok bool, format string, args ...any) {
	if !ok {
		*p = append(*p, fmt.Errorf(format, args...))
	}
}

// Bounds of durations. Every one has a floor, but for those of which 0s means something.
const (
	minTimeout        = time.Millisecond
	minReloadInterval = 10 * time.Millisecond
	minKeepalive      = time.Second
	maxTimeout        = 365 * 24 * time.Hour
	maxKeepOnLoss     = 24 * time.Hour
)

// duration notes a duration that is shorter than minimum or longer than maxTimeout.
func (p *problems) duration(key string, d, minimum time.Duration) {
	p.check(d >= minimum && d <= maxTimeout, "%s: %s, want %s to %s", key, d, minimum, maxTimeout)
}

// within notes the errors that are joined in err, each of which begins with a key that is below the given one.
func (p *problems) within(key string, err error) { *p = append(*p, strict.Within(key+".", err)...) }

// minBuffered is the least limits.max_buffered_bytes.
const minBuffered = 1 << 20

var encodingName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,31}$`)

func (c *Config) validateListeners(p *problems) {
	p.check(len(c.Listeners) > 0, "listeners: empty, want at least one")
	names, addresses := map[string]bool{}, map[string]bool{}
	for i, l := range c.Listeners {
		key := fmt.Sprintf("listeners[%d]", i)
		if err := spec.ValidateName(l.Name); err != nil {
			p.check(false, "%s.name: %w", key, err)
		}
		p.check(!names[l.Name], "%s.name: %q, want a name that no other listener has", key, l.Name)
		p.check(validListen(l.Address), "%s.address: %q, want host:port", key, plain.URL(l.Address))
		p.check(!addresses[l.Address] || strings.HasSuffix(l.Address, ":0"), "%s.address: %q, want an address that no other listener has", key, plain.URL(l.Address))
		names[l.Name], addresses[l.Address] = true, true
		p.check(!l.ReusePort || !strings.HasSuffix(l.Address, ":0"), "%s.reuse_port: true with address %q, want a port that another process can be given too", key, plain.URL(l.Address))
		p.check(!l.ReusePort || acceptor.CanReusePort, "%s.reuse_port: true, want false: this platform has no SO_REUSEPORT that framegate can use", key)
		p.check(l.DataPlane == DataPlaneRelay || l.DataPlane == DataPlaneKitex, "%s.data_plane: %q, want relay or kitex", key, l.DataPlane)
		p.check(l.DataPlane != DataPlaneRelay || relay.Supported, "%s.data_plane: relay, want kitex: this platform has no sockets that the relay can use", key)
		p.check(l.Health == HealthBuiltin || l.Health == HealthRouted, "%s.health: %q, want own or routed", key, l.Health)
		p.check(l.MaxConnections >= 0, "%s.max_connections: %d, want 0 (no bound) or more", key, l.MaxConnections)
		p.check(l.MaxCalls >= 0, "%s.max_calls: %d, want 0 (no bound) or more", key, l.MaxCalls)
		p.check(l.MaxConcurrentStreams >= 1, "%s.max_concurrent_streams: %d, want at least 1", key, l.MaxConcurrentStreams)
		p.check(l.MaxHeaderBytes >= 4096, "%s.max_header_bytes: %d, want at least 4096", key, l.MaxHeaderBytes)
		p.check(l.StreamWindow >= policy.MinWindow && l.StreamWindow <= policy.MaxWindow, "%s.stream_window: %d, want %d to %d", key, l.StreamWindow, policy.MinWindow, policy.MaxWindow)
		p.check(l.ConnectionWindow >= l.StreamWindow && l.ConnectionWindow <= policy.MaxWindow, "%s.connection_window: %d, want stream_window (%d) to %d", key, l.ConnectionWindow, l.StreamWindow, policy.MaxWindow)
		p.duration(key+".keepalive.time", l.Keepalive.Time, minKeepalive)
		p.duration(key+".keepalive.timeout", l.Keepalive.Timeout, minKeepalive)
		p.duration(key+".keepalive.min_ping_interval", l.Keepalive.MinPingInterval, minTimeout)
		p.within(key+".peer_limits", l.PeerLimits.Validate(l.MaxHeaderBytes))
	}
}

func (c *Config) validateEtcd(p *problems) {
	e := c.Etcd
	p.check(len(e.Endpoints) > 0, "etcd.endpoints: empty, want embedded, none or a list of host:port")
	if len(e.Endpoints) > 1 {
		for _, word := range []string{Embedded, None} {
			p.check(!slices.Contains(e.Endpoints, word), "etcd.endpoints: %q among others, want it alone", word)
		}
	}
	if e.External() {
		p.within("etcd", e.Client().Validate())
	}
	if err := etcdstore.ValidatePrefix(e.Prefix); err != nil {
		p.check(false, "etcd.prefix: %v", err)
	}
	if err := etcdstore.ValidateServicePrefix(e.ServicePrefix); err != nil {
		p.check(false, "etcd.service_prefix: %v", err)
	}
	p.duration("etcd.dial_timeout", e.DialTimeout, minTimeout)
	switch {
	case e.Is(Embedded):
		p.check(e.Embedded.Dir != "", "etcd.embedded.dir: empty, want a directory")
		if e.Embedded.Dir != "" {
			p.within("etcd.embedded", e.Server().Validate())
		}
		p.check(e.Username == "" || e.Password != "", "etcd.username: %q without a password, want both or none", e.Username)
		p.check(e.Username != "" || e.Password == "", "etcd.username: empty beside a password, want both or none")
		for _, file := range []struct{ key, path string }{{"ca_file", e.CAFile}, {"cert_file", e.CertFile}, {"key_file", e.KeyFile}} {
			p.check(file.path == "", "etcd.%s: %q, want it with the endpoints of an etcd elsewhere; files of the embedded one are under etcd.embedded", file.key, file.path)
		}
	case e.Is(None):
		p.check(c.Routes.File != "", "routes.file: empty, want a file of routes when etcd.endpoints is none")
	}
}

func (c *Config) validateServices(p *problems) {
	p.check(len(c.Services.Allow) > 0, "services.allow: empty, want at least one network or unix:/path: instances can be nowhere else")
	if _, err := cluster.ParseAllow(c.Services.Allow); err != nil {
		p.check(false, "services.allow%w", err)
	}
}

// Is reports whether the endpoints are the one word.
func (e Etcd) Is(word string) bool { return len(e.Endpoints) == 1 && e.Endpoints[0] == word }

// External reports whether etcd runs outside this process.
func (e Etcd) External() bool { return len(e.Endpoints) > 0 && !e.Is(Embedded) && !e.Is(None) }

func (c *Config) validateRegister(p *problems) {
	r := c.Register
	if r.Service == "" {
		p.check(r.Address == "", "register.service: empty, want a name beside register.address")
		return
	}
	if err := spec.ValidServiceName(r.Service); err != nil {
		p.check(false, "register.service: %w", err)
	}
	p.check(!c.Etcd.Is(None), "register.service: %q with etcd.endpoints none, want etcd to register in", r.Service)
	p.check(r.Address == "" || validListen(r.Address) && !strings.HasPrefix(r.Address, ":"), "register.address: %q, want host:port that clients reach", plain.URL(r.Address))
	in := spec.Instance{Address: "127.0.0.1:1", Weight: r.Weight, Tags: r.Tags} // the address is checked above
	if _, err := in.Encode(); err != nil {
		p.within("register", err)
	}
}

// validListen reports whether s is host:port to listen on; an empty host means every address, port 0 any free port.
func validListen(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsAny(host, " /") {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}
