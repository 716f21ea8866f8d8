package etcdtest

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
)

// LateMember is a proxy to an etcd that acts as a member which is behind the others or stuck. While it is held (Hold), its
// watches get no events; while it hangs (Hang), its requests get no answers.
type LateMember struct {
	cc       *grpc.ClientConn
	listener net.Listener

	mu      sync.Mutex // guards what follows
	held    bool
	hung    bool     // requests get no answer, except those in but
	but     []string // suffixes of the methods that are answered while hung
	watches int      // open watches
	asked   int      // requests taken without an answer
	gaveUp  int      // those of asked whose client has given up
}

// NewLateMember starts a proxy to the etcd at endpoint. t.Cleanup stops it.
func NewLateMember(t *testing.T, endpoint string) *LateMember {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m := &LateMember{cc: cc, listener: l}
	server := grpc.NewServer(grpc.UnknownServiceHandler(m.forward), grpc.ForceServerCodecV2(rawCodec{}))
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done; _ = cc.Close() })
	return m
}

// Address returns where the member listens.
func (m *LateMember) Address() string { return m.listener.Addr().String() }

// Hold drops the events of all watches while held is true.
func (m *LateMember) Hold(held bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = held
}

// Hang makes the member take all requests and answer only those of methods that end with one of but, as a member whose disk
// or raft is stuck.
func (m *LateMember) Hang(but ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hung, m.but = true, but
}

// GoOn ends Hang for requests from now on.
func (m *LateMember) GoOn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hung = false
}

// Open returns how many watches are open at the member.
func (m *LateMember) Open() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.watches
}

// Unanswered returns how many requests were taken without an answer, and how many of these the client has given up.
func (m *LateMember) Unanswered() (asked, gaveUp int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked, m.gaveUp
}

func (m *LateMember) forward(_ any, in grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(in)
	watch := strings.HasSuffix(method, "/Watch")
	if watch {
		m.mu.Lock()
		m.watches++
		m.mu.Unlock()
		defer func() { m.mu.Lock(); m.watches--; m.mu.Unlock() }()
	}
	m.mu.Lock()
	hung := m.hung && !slices.ContainsFunc(m.but, func(end string) bool { return strings.HasSuffix(method, end) })
	if hung {
		m.asked++
	}
	m.mu.Unlock()
	if hung {
		<-in.Context().Done()
		m.mu.Lock()
		m.gaveUp++
		m.mu.Unlock()
		return in.Context().Err()
	}
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	out, err := m.cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		return err
	}
	go func() {
		for {
			var b []byte
			if in.RecvMsg(&b) != nil {
				_ = out.CloseSend()
				return
			}
			_ = out.SendMsg(&b)
		}
	}()
	for {
		var b []byte
		if err := out.RecvMsg(&b); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		m.mu.Lock()
		held := m.held
		m.mu.Unlock()
		if watch && held {
			continue
		}
		if err := in.SendMsg(&b); err != nil {
			return err
		}
	}
}

// rawCodec passes messages as bytes, undecoded.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (rawCodec) Name() string { return "raw" }
