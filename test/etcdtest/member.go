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

// LateMember is a member of etcd that answers everything, but whose watches tell nothing while they are held: it is behind
// the others.
type LateMember struct {
	cc       *grpc.ClientConn
	listener net.Listener

	mu      sync.Mutex // guards what follows
	held    bool
	hung    bool     // what is not in but is taken and not answered
	but     []string // ends of methods
	watches int      // that are open
	asked   int      // how many have been taken and were not answered,
	gaveUp  int      // and for how many of these nobody waits any more
}

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

func (m *LateMember) Address() string { return m.listener.Addr().String() }

func (m *LateMember) Hold(held bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = held
}

// Hang makes the member one that takes all requests and answers only some, as one whose disk or raft is stuck does.
func (m *LateMember) Hang(but ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hung, m.but = true, but
}

// GoOn ends hang, for what comes from now on.
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

// Unanswered returns how many requests were not answered, and for how many of these nobody waits any more.
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

// rawCodec takes messages as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (rawCodec) Name() string { return "raw" }
