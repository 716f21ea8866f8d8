// Package reflection is a client of gRPC server reflection: it asks an endpoint for its schema. It also has a cache for what
// callers make of the answers.
//
// Enter at Fetch; then conversation.go (one question and its answer), gathering.go (which files are needed, and in which
// order), absent.go (files that the endpoint lacks) and budget.go (how much memory an endpoint's answers may take). The
// other entry is Cache.Get (cache.go), which decides when to fetch; then key.go (what is cached) and flight.go (a fetch that
// several callers wait for).
package reflection

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Stream is one call of the reflection service. Its messages are the payloads of gRPC frames, without their prefix.
//
// Fetch calls Send and Recv from one goroutine, in turn. It calls Close exactly once, perhaps from another goroutine while
// Send or Recv blocks: they must return then. An error for a gRPC status has, or wraps an error that has, the method
// GRPCStatus() *status.Status of Kitex's nphttp2/status; an error without it is a failure of the connection.
type Stream interface {
	Send(msg []byte) error // sends a message; it does not keep msg

	// Recv returns the next message, which the caller owns. It returns io.EOF when the stream has ended with status OK. It
	// should refuse a message of more than MaxBytes before it allocates the memory.
	Recv() ([]byte, error)

	Close() // ends the stream, whatever its state
}

// Taker is an optional interface of a Stream. Take is called before n bytes are allocated for what the stream's messages are
// decoded to. It may block until there is room. Fetch returns its error, wrapped. The caller of Fetch gives the memory back.
type Taker interface {
	Take(n int64) error
}

// Opener opens a stream of the method with a full name such as /grpc.reflection.v1.ServerReflection/ServerReflectionInfo.
// ctx is that of Fetch.
type Opener func(ctx context.Context, method string) (Stream, error)

// methods are the versions of the reflection service, the preferred one first. Their messages are the same on the wire.
var methods = [...]string{
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}

var (
	// ErrUnimplemented says that the endpoint has no reflection service, neither v1 nor v1alpha.
	ErrUnimplemented = errors.New("the endpoint does not offer server reflection")

	// ErrMissing says that the endpoint has the reflection service, but not the service or the method that it was asked for.
	// The client may have made up the name, or the endpoint may be of another version.
	ErrMissing = errors.New("the endpoint does not know it")
)

// Fetch asks for the file that defines service, a full name such as pkg.Service, and for the files that it imports,
// directly or not. It returns them with every file after its imports, without comments and positions
// (source_code_info). The set has been checked: protodesc.NewFiles takes it. Files that the endpoint sends and service
// does not need are left out.
//
// A file that the endpoint lacks is left out, with the imports of it, if the other files use no type of it: then they import
// it for options only.
//
// The files that come with protoc (google/protobuf/*.proto) are always framegate's own: the endpoint need not have them, and
// what it sends for them is ignored.
//
// Fetch asks v1, then v1alpha if v1 is UNIMPLEMENTED. It blocks until it has all answers or ctx ends, so ctx should have a
// deadline. MaxFiles, MaxBytes and the other bounds in budget.go bound the memory of the answers. Fetch asks for each file
// at most once. Errors are ErrMissing, ErrUnimplemented, an *AnswerError, a *ProtocolError, a *LimitError or one of the
// stream, wrapped.
func Fetch(ctx context.Context, open Opener, service string) (*descriptorpb.FileDescriptorSet, error) {
	if !protoreflect.FullName(service).IsValid() {
		return nil, fmt.Errorf("reflection: service %s: want a full name such as pkg.Service", shortened(service))
	}
	var set *descriptorpb.FileDescriptorSet
	var err error
	for _, method := range methods {
		if set, err = fetchFrom(ctx, open, method, service); !errors.Is(err, ErrUnimplemented) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reflection: service %s: %w", service, err)
	}
	return set, nil
}

// fetchFrom is Fetch with one version of the reflection service.
func fetchFrom(ctx context.Context, open Opener, method, service string) (*descriptorpb.FileDescriptorSet, error) {
	stream, err := open(ctx, method)
	if err != nil {
		return nil, streamError(ctx, "open "+method, err, firstQuestion)
	}
	closeOnce := sync.OnceFunc(stream.Close)
	defer closeOnce()
	defer context.AfterFunc(ctx, closeOnce)()

	c := &conversation{ctx: ctx, stream: stream}
	c.budget.taker, _ = stream.(Taker)
	g := newGathering(c)
	root, err := g.findService(service)
	if err != nil {
		return nil, err
	}
	if err := g.visit(root); err != nil {
		return nil, err
	}
	return g.finish(service)
}
