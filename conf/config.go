// Package conf is framegate's configuration: its keys as Go types, its defaults, how a file is read, validated and reloaded.
//
// Enter at Load; then validate.go (the mistakes) and reload.go (a changed file). framegate.yaml, beside this file, documents
// every key; a test compares its values with Default.
package conf

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/handler/tracing"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/relay"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdserver"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/strict"
)

// None, as an address, a path or an etcd endpoint, turns off what is there. Embedded, as an etcd endpoint, means the etcd
// that framegate runs in its process.
const (
	None     = "none"
	Embedded = "embedded"
)

// What answers grpc.health.v1.Health on a listener: framegate's builtin service, or the endpoints that routes name.
const (
	HealthBuiltin = "own"
	HealthRouted  = "routed"
)

// What serves the connections of a listener: package relay, or Kitex's gRPC transport.
const (
	DataPlaneRelay = "relay"
	DataPlaneKitex = "kitex"
)

// Config is the whole configuration. See framegate.yaml for what each key means.
type Config struct {
	Listeners   []Listener `yaml:"listeners"`
	Admin       Admin      `yaml:"admin"`
	Routes      Routes     `yaml:"routes"`
	Etcd        Etcd       `yaml:"etcd"`
	Services    Services   `yaml:"services"`
	Upstream    Upstream   `yaml:"upstream"`
	Limits      Limits     `yaml:"limits"`
	Mirrors     Mirrors    `yaml:"mirrors"`
	Compression []string   `yaml:"compression"`
	Register    Register   `yaml:"register"`
	Drain       Drain      `yaml:"drain"`
	Log         Log        `yaml:"log"`
	AccessLog   AccessLog  `yaml:"access_log"`
	Tracing     Tracing    `yaml:"tracing"`
}

// Upstream says how endpoints are connected to.
type Upstream struct {
	policy.Policy `yaml:",inline"` // for the keys that a backend's own policy leaves out
	PeerLimits    h2.Limits        `yaml:"peer_limits"` // of endpoints, on connections of the relay
}

// Listener is one address that clients connect to.
type Listener struct {
	Name                 string          `yaml:"name"`
	Address              string          `yaml:"address"`
	ReusePort            bool            `yaml:"reuse_port"`
	DataPlane            string          `yaml:"data_plane"`      // DataPlaneRelay or DataPlaneKitex
	Health               string          `yaml:"health"`          // HealthBuiltin or HealthRouted
	MaxConnections       int             `yaml:"max_connections"` // 0 means no bound
	MaxCalls             int             `yaml:"max_calls"`       // 0 means no bound
	MaxConcurrentStreams uint32          `yaml:"max_concurrent_streams"`
	MaxHeaderBytes       uint32          `yaml:"max_header_bytes"`
	StreamWindow         uint32          `yaml:"stream_window"`
	ConnectionWindow     uint32          `yaml:"connection_window"`
	Keepalive            ServerKeepalive `yaml:"keepalive"`
	PeerLimits           h2.ClientLimits `yaml:"peer_limits"` // of clients, with DataPlaneRelay
}

// ServerKeepalive says how idle clients are probed with HTTP/2 PING, and how often they may send PING.
type ServerKeepalive struct {
	Time            time.Duration `yaml:"time"`
	Timeout         time.Duration `yaml:"timeout"`
	MinPingInterval time.Duration `yaml:"min_ping_interval"`
}

// Tracer returns the configuration of the tracer.
func (t Tracing) Tracer() tracing.Config {
	return tracing.Config{Endpoint: t.Endpoint, Insecure: t.Insecure, Sample: t.Sample}
}

// Admin configures the admin HTTP server.
type Admin struct {
	Address        string `yaml:"address"`
	Token          string `yaml:"token"`
	MaxConnections int    `yaml:"max_connections"`
	Pprof          bool   `yaml:"pprof"`
	Tap            bool   `yaml:"tap"`
}

// AccessLog says which calls are logged, and where.
type AccessLog struct {
	Path   string  `yaml:"path"`
	Sample float64 `yaml:"sample"`
	Errors bool    `yaml:"errors"`
}

// Tracing says where spans of calls are sent.
type Tracing struct {
	Endpoint string  `yaml:"endpoint"`
	Insecure bool    `yaml:"insecure"`
	Sample   float64 `yaml:"sample"`
}

// Routes says where routes come from beside etcd.
type Routes struct {
	File           string        `yaml:"file"`
	ReloadInterval time.Duration `yaml:"reload_interval"`
}

// Etcd says where etcd is, and which keys of it are framegate's.
type Etcd struct {
	Endpoints     []string      `yaml:"endpoints"`
	Prefix        string        `yaml:"prefix"`
	ServicePrefix string        `yaml:"service_prefix"`
	Snapshot      string        `yaml:"snapshot"`
	Username      string        `yaml:"username"`
	Password      string        `yaml:"password"`
	CAFile        string        `yaml:"ca_file"`
	CertFile      string        `yaml:"cert_file"`
	KeyFile       string        `yaml:"key_file"`
	DialTimeout   time.Duration `yaml:"dial_timeout"`
	Embedded      EmbeddedEtcd  `yaml:"embedded"`
}

// EmbeddedEtcd configures the etcd that runs in framegate's process.
type EmbeddedEtcd struct {
	Dir          string `yaml:"dir"`
	Address      string `yaml:"address"`
	Insecure     bool   `yaml:"insecure"`
	CertFile     string `yaml:"cert_file"`
	KeyFile      string `yaml:"key_file"`
	ClientCAFile string `yaml:"client_ca_file"`
}

// Services says what is done with the registered instances of services.
type Services struct {
	Allow      []string      `yaml:"allow"`        // see cluster.ParseAllow
	KeepOnLoss time.Duration `yaml:"keep_on_loss"` // see etcdsource.Config
}

// Client returns the configuration of a client of an external etcd.
func (e Etcd) Client() etcdclient.Config {
	return etcdclient.Config{
		Endpoints: e.Endpoints, Username: e.Username, Password: e.Password,
		CAFile: e.CAFile, CertFile: e.CertFile, KeyFile: e.KeyFile, DialTimeout: e.DialTimeout,
	}
}

// Server returns the configuration of the embedded etcd.
func (e Etcd) Server() etcdserver.Config {
	in := e.Embedded
	return etcdserver.Config{
		Dir: in.Dir, Address: in.Address, Insecure: in.Insecure, Username: e.Username, Password: e.Password,
		CertFile: in.CertFile, KeyFile: in.KeyFile, ClientCAFile: in.ClientCAFile,
	}
}

// Limits bound what calls may use.
type Limits struct {
	MaxMessageBytes int64 `yaml:"max_message_bytes"`
	MaxHops         int   `yaml:"max_hops"`          // framegates that a call may have passed before this one; 0 means no bound, and no via header
	MaxDecodedBytes int64 `yaml:"max_decoded_bytes"` // 0 means budget.DefaultBytes

	MaxBufferedBytes int64 `yaml:"max_buffered_bytes"` // of DATA that waits for peers in the relay

	MaxHealthWatches int `yaml:"max_health_watches"` // Watch streams of the builtin health service; 0 means no bound
}

// Mirrors bounds the copies of calls for mirrors.
type Mirrors struct {
	MaxCalls int `yaml:"max_calls"` // copies under way, of all mirrors together; 0 means no bound
}

// Register says how framegate registers itself in etcd as a Kitex service.
type Register struct {
	Service string            `yaml:"service"`
	Address string            `yaml:"address"`
	Weight  int               `yaml:"weight"`
	Tags    map[string]string `yaml:"tags"`
}

// Drain says how the server stops.
type Drain struct {
	Delay           time.Duration `yaml:"delay"`
	Timeout         time.Duration `yaml:"timeout"`
	EndpointTimeout time.Duration `yaml:"endpoint_timeout"`
}

// Log says what is logged.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// MaxHeaderBytes returns the largest max_header_bytes of the listeners.
func (c *Config) MaxHeaderBytes() (n uint32) {
	for _, l := range c.Listeners {
		n = max(n, l.MaxHeaderBytes)
	}
	return n
}

// ListenerNames returns the names of the listeners.
func (c *Config) ListenerNames() []string {
	names := make([]string, len(c.Listeners))
	for i, l := range c.Listeners {
		names[i] = l.Name
	}
	return names
}

// BuiltinHealth returns the names of the listeners on which the builtin service answers health checks.
func (c *Config) BuiltinHealth() (names []string) {
	for _, l := range c.Listeners {
		if l.Health == HealthBuiltin {
			names = append(names, l.Name)
		}
	}
	return names
}

// Default returns the configuration of a process without a file and without flags.
func Default() *Config {
	return &Config{
		Listeners: []Listener{DefaultListener()},
		Admin:     Admin{Address: "127.0.0.1:8889", MaxConnections: admin.DefaultMaxConnections},
		Routes:    Routes{ReloadInterval: 500 * time.Millisecond},
		Etcd: Etcd{
			Endpoints:     []string{Embedded},
			Prefix:        etcdstore.DefaultPrefix,
			ServicePrefix: etcdstore.DefaultServicePrefix,
			Snapshot:      "./framegate-data/last-good.json",
			DialTimeout:   5 * time.Second,
			Embedded:      EmbeddedEtcd{Dir: "./framegate-data", Address: "127.0.0.1:2379"},
		},
		Services:    Services{Allow: slices.Clone(cluster.DefaultAllow), KeepOnLoss: 5 * time.Minute},
		Upstream:    defaultUpstream(),
		Limits:      Limits{MaxMessageBytes: handler.DefaultMaxMessageBytes, MaxHops: handler.DefaultMaxHops, MaxBufferedBytes: 256 << 20, MaxHealthWatches: 10_000},
		Mirrors:     Mirrors{MaxCalls: mirror.DefaultMaxCalls},
		Compression: []string{"br", "lz4"},
		Register:    Register{Weight: 10},
		Drain:       Drain{Timeout: 30 * time.Second, EndpointTimeout: 30 * time.Second},
		Log:         Log{Level: "info", Format: "text"},
		AccessLog:   AccessLog{Path: None, Sample: 0.01, Errors: true},
		Tracing:     Tracing{Insecure: true},
	}
}

// DefaultListener returns the defaults of a listener; entries of "listeners" in a file start from it.
func DefaultListener() Listener {
	return Listener{
		Name:                 "main",
		Address:              "127.0.0.1:8888",
		DataPlane:            defaultDataPlane(),
		Health:               HealthBuiltin,
		MaxConnections:       10_000,
		MaxConcurrentStreams: 1024,
		MaxHeaderBytes:       64 << 10,
		StreamWindow:         256 << 10,
		ConnectionWindow:     1 << 20,
		Keepalive:            ServerKeepalive{Time: 2 * time.Minute, Timeout: 20 * time.Second, MinPingInterval: 10 * time.Second},
		PeerLimits:           h2.ClientLimits{Limits: h2.DefaultLimits()},
	}
}

func defaultUpstream() Upstream {
	u := Upstream{Policy: policy.Default(), PeerLimits: h2.DefaultLimits()}
	u.PeerLimits.HandshakeTimeout = 0 // it follows from connect_timeout
	return u
}

func defaultDataPlane() string {
	if relay.Supported {
		return DataPlaneRelay
	}
	return DataPlaneKitex
}

// Redacted returns a copy without secrets, for display.
func (c *Config) Redacted() *Config {
	r := *c
	for _, secret := range []*string{&r.Admin.Token, &r.Etcd.Password} {
		if *secret != "" {
			*secret = "(hidden)"
		}
	}
	return &r
}

// Load reads a configuration file over the defaults. It does not validate the result, because flags may override it.
func Load(path string) (*Config, error) { return load(path, Parse) }

func load(path string, parse func(data []byte) (*Config, error)) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	c, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	return c, nil
}

// Parse decodes a configuration document over the defaults. A list in it replaces the default list.
func Parse(data []byte) (*Config, error) {
	c := Default()
	if err := strict.Decode(data, c); err != nil {
		return nil, err
	}
	return c, nil
}
