// Package transserver serves the connections of clients with Kitex's HTTP/2 transport, behind a guard: it is an
// acceptor.DataPlane.
//
// Kitex's transport waits for ever for the rest of a client's preface, and trusts clients. Here each connection has a goroutine
// and a bound for the preface, HTTP/1 is answered, and a guard stands before the transport, against clients that mean harm.
//
// Enter at Plane.Conn; then conn.go (a connection), guard.go (what a client may do), requests.go and refuse.go (which requests
// are not gRPC, and how they are answered), stuck.go (ends connections whose client reads nothing), crash.go (ends connections
// whose transport has panicked), gofunc.go (where Kitex runs goroutines) and transport.go (what is read from Kitex's transport).
package transserver

import (
	"io"
	"math"
	"net"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/server"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/pool/h2conn"
)

// prefaceTimeout bounds how long a new connection may take to show that it speaks HTTP/2.
const prefaceTimeout = 10 * time.Second

// defaultWriteTimeout is the default of Config.WriteTimeout.
const defaultWriteTimeout = 3 * time.Minute

// Config configures a Plane.
type Config struct {
	WriteTimeout time.Duration // how long one write to a client (of up to about 64 KiB) may take; 0 means 3 minutes
	Gate         Gate          // called for each call, which it may end; nil lets all in
	Refuse       Refuse        // answers each request that is not gRPC; nil leaves them to Kitex, which resets most of them

	prefaceTimeout time.Duration
}

// Plane is the data plane of one Kitex server.
type Plane struct {
	cfg  Config
	once sync.Once // starts cutStuck
}

// New returns a Plane for one acceptor.Acceptor. The Kitex server has the options of Options.
func New(cfg Config) *Plane {
	if cfg.prefaceTimeout == 0 {
		cfg.prefaceTimeout = prefaceTimeout
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = defaultWriteTimeout
	}
	return &Plane{cfg: cfg}
}

// Offences implements acceptor.DataPlane.
func (p *Plane) Offences() []string {
	names := make([]string, len(offences))
	for i, o := range offences {
		names[i] = o.Name
	}
	return names
}

// Conn implements acceptor.DataPlane.
func (p *Plane) Conn(nc net.Conn, s *acceptor.Server) acceptor.Conn {
	p.watch(s)
	opt, _ := s.Kitex()
	maxHeader := maxHeaderBytes(opt.GRPCCfg)
	c := &conn{Conn: nc, plane: p, server: s, guard: newGuard(opt.GRPCCfg.MaxStreams, maxHeader)}
	var src io.Reader = socket{c}
	if p.cfg.Refuse != nil {
		src = &blocks{c: c, Blocks: h2conn.NewBlocks(src, h2conn.BlocksConfig{
			Judge: &requests{conn: c}, MaxList: maxHeader, MaxBytes: c.guard.maxBlock, Skip: len(http2.ClientPreface),
		})}
	}
	c.reader = h2conn.NewReader(src, nil)
	return c
}

// Options returns the options with which a Kitex server gets its connections from an acceptor whose data plane is a Plane.
func Options(a *acceptor.Acceptor) []server.Option {
	return []server.Option{a.Option(), server.WithTransHandlerFactory(nphttp2.NewSvrTransHandlerFactory())}
}

// maxHeaderBytes returns Kitex's bound of a call's metadata: the server's MAX_HEADER_LIST_SIZE.
func maxHeaderBytes(cfg *grpc.ServerConfig) uint32 {
	if cfg.MaxHeaderListSize == nil {
		return math.MaxUint32
	}
	return *cfg.MaxHeaderListSize
}
