package load

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/transport"

	"github.com/framegate/framegate/kitex_gen/echo/echo"
)

// side is one address under load: its clients, and what was measured there over all its slices.
type side struct {
	name      string // "target" or "baseline"
	address   string // as it was given
	dialer    *dialer
	clients   []echo.Client // one connection each
	recorders []*recorder   // worker i writes to recorder i mod len

	// Owned by Run's goroutine.
	measured time.Duration // the sum of the windows so far
	unsent   int64         // calls that were due in a window and not begun in it
}

// connectTimeout bounds a dial; Kitex's default is 50 ms.
const connectTimeout = 2 * time.Second

// newSide makes cfg.Connections clients of address; they dial when they are first used. The caller closes the side.
func newSide(ctx context.Context, name, address string, cfg Config) (*side, error) {
	resolved, err := resolve(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("load: %s %s: %w", name, address, err)
	}
	s := &side{name: name, address: address, dialer: newDialer()}
	for range cfg.Connections {
		// A pool size of 1 is what makes a client one connection: the default is GOMAXPROCS*3/2, taken in turn.
		c, err := echo.NewClient(address, // the service name becomes :authority
			client.WithTransportProtocol(transport.GRPC),
			client.WithHostPorts(resolved),
			client.WithGRPCConnPoolSize(1),
			client.WithConnectTimeout(connectTimeout),
			client.WithDialer(s.dialer))
		if err != nil {
			return nil, fmt.Errorf("load: client of %s %s: %w", name, address, err)
		}
		s.clients = append(s.clients, c)
	}
	for range min(cfg.Concurrency, maxRecorders) {
		s.recorders = append(s.recorders, newRecorder())
	}
	return s, nil
}

// resolve turns host:port into ip:port, an IPv4 address if there is one, because Kitex panics on a name that does not resolve.
func resolve(ctx context.Context, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", err
	}
	var found netip.Addr
	for _, ip := range ips {
		if ip = ip.Unmap(); !found.IsValid() || ip.Is4() && !found.Is4() {
			found = ip
		}
	}
	if !found.IsValid() {
		return "", fmt.Errorf("no address for %q", host)
	}
	return net.JoinHostPort(found.String(), port), nil
}

// close ends the side's connections. Kitex clients have no Close; the garbage collector frees them.
func (s *side) close() { s.dialer.hangUp() }

// totals returns the sum of the side's recorders up to now.
func (s *side) totals() *recorder {
	sum := newRecorder()
	for _, r := range s.recorders {
		r.mergeInto(sum)
	}
	return sum
}

// counts returns the numbers of the progress line, without the cost of totals.
func (s *side) counts() (calls, failed int64) {
	for _, r := range s.recorders {
		c, f := r.counts()
		calls, failed = calls+c, failed+f
	}
	return calls, failed
}
