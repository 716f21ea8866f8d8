package etcdclient

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

const (
	placeKey = "framegate-watch" // metadata key that gives each place a stream of its own
	// avoidFor is how long a watch does not go back to a member that was behind the others.
	avoidFor = time.Minute
	// placeTries bounds how many streams are opened to get one at a member that is not avoided. They go to all members in turn.
	placeTries = 8
)

// Place chooses the member of etcd that serves a watch. Without it, etcd's client opens a stream to any member, and puts all
// watches with equal metadata on that stream.
type Place struct {
	name string // unique among the places of a client

	mu      sync.Mutex           // guards what follows
	moves   int                  // calls of Leave
	address string               // of the member that serves the watch; empty before the first
	avoided map[string]time.Time // by a member's address: until when it is avoided
}

// NewPlace returns a Place with a name that no other Place of the client has.
func NewPlace(name string) *Place { return &Place{name: name, avoided: map[string]time.Time{}} }

type placeContext struct{}

// Watching returns a context in which to open the watch.
func (p *Place) Watching(ctx context.Context) context.Context {
	p.mu.Lock()
	stream := fmt.Sprintf("%s-%d", p.name, p.moves) // so that a watch after Leave does not share a stream that is still open
	p.mu.Unlock()
	ctx = metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), placeKey, stream)
	return context.WithValue(ctx, placeContext{}, p)
}

// Leave makes the next watch go to another member, if another one takes calls. It returns the address of the member that is
// left.
func (p *Place) Leave() (address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moves++
	if p.address != "" {
		p.avoided[p.address] = time.Now().Add(avoidFor)
	}
	return p.address
}

// take notes the member that a stream was opened to, and reports whether the watch may use it.
func (p *Place) take(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.address = address
	return !time.Now().Before(p.avoided[address])
}

// placeWatch is a stream interceptor. If the context is one of Watching, it opens streams until one goes to a member that the
// Place does not avoid, or placeTries were opened.
func placeWatch(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	p, ok := ctx.Value(placeContext{}).(*Place)
	if !ok {
		return open(ctx, desc, cc, method, opts...)
	}
	for tries := 1; ; tries++ {
		ctx, cancel := context.WithCancel(ctx)
		stream, err := open(ctx, desc, cc, method, opts...)
		if err != nil {
			cancel()
			return nil, err
		}
		at, ok := peer.FromContext(stream.Context())
		if !ok || p.take(at.Addr.String()) || tries == placeTries {
			context.AfterFunc(stream.Context(), cancel)
			return stream, nil
		}
		cancel()
	}
}
