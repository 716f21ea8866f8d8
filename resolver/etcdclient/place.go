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
	placeKey = "framegate-watch" // of the metadata that gives each place a stream of its own
	// avoidFor is how long a watch does not go back to a member that was behind the others.
	avoidFor = time.Minute
	// placeTries bounds how many streams are opened to find one at another member; they go to all in turn.
	placeTries = 8
)

// Place is the member of etcd at which a watch is. Left to itself, etcd's client opens a stream at any member, and puts
// all watches with equal metadata on it.
type Place struct {
	name string // that no other place of the client has

	mu      sync.Mutex           // guards what follows
	moves   int                  // members that were left
	address string               // of the member that has the watch; empty before the first
	avoided map[string]time.Time // members, and until when
}

func NewPlace(name string) *Place { return &Place{name: name, avoided: map[string]time.Time{}} }

type placeContext struct{}

// Watching returns the context of a watch at this place.
func (p *Place) Watching(ctx context.Context) context.Context {
	p.mu.Lock()
	stream := fmt.Sprintf("%s-%d", p.name, p.moves) // a new one, should the last still be open
	p.mu.Unlock()
	ctx = metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), placeKey, stream)
	return context.WithValue(ctx, placeContext{}, p)
}

// Leave makes the next watch go to another member than the one that has it, if there is one that takes calls.
func (p *Place) Leave() (address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moves++
	if p.address != "" {
		p.avoided[p.address] = time.Now().Add(avoidFor)
	}
	return p.address
}

// take notes where a stream is, and reports whether the watch may be there.
func (p *Place) take(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.address = address
	return !time.Now().Before(p.avoided[address])
}

// placeWatch is the interceptor of a client that puts watches at their place.
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
