// Package reflection asks an endpoint for its schema through gRPC server reflection, and keeps what was made of the
// answers.
//
// Enter at Fetch; then conversation.go (one question and its answer), gathering.go (which files are needed, in which
// order), absent.go (which are not), budget.go (how much an endpoint may make us hold). Cache (cache.go, key.go, flight.go) is beside it: it
// decides when Fetch is worth calling.
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
// Fetch calls Send and Recv from one goroutine, in turn, and Close exactly once, maybe from another one while Send or
// Recv waits: they must return then. An error that stands for a gRPC status has, or wraps one that has, the method
// GRPCStatus() *status.Status of Kitex's nphttp2/status; errors without it are failures of the connection.
type Stream interface {
	Send(msg []byte) error // sends a message; it does not keep msg

	// Recv returns the next message, which is the caller's to keep. It returns io.EOF at an end with status OK. It
	// should refuse a message of more than MaxBytes before it takes the memory.
	Recv() ([]byte, error)

	Close() // ends the stream whatever its state
}

// Taker is a Stream that is asked before memory is taken for what its messages are decoded to. It blocks until there is
// room; its error is returned by Fetch, wrapped. Whoever made the stream gives the memory back.
type Taker interface {
	Take(n int64) error
}

// Opener opens a stream of a full method name such as /grpc.reflection.v1.ServerReflection/ServerReflectionInfo. ctx is
// that of Fetch.
type Opener func(ctx context.Context, method string) (Stream, error)

// methods are the versions of the reflection service, the preferred one first. Their messages are the same on the wire.
var methods = [...]string{
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}

var (
	// ErrUnimplemented says that the endpoint has no reflection service, in any version known here.
	ErrUnimplemented = errors.New("the endpoint does not offer server reflection")

	// ErrMissing says that the endpoint answers, but does not know the service or the method: the caller's mistake, or
	// an endpoint of another version.
	ErrMissing = errors.New("the endpoint does not know it")
)

// Fetch asks for the file that defines service, a full name such as pkg.Service, and for the files that it imports,
// directly or not. It returns them with every file after its imports, without comments and positions
// (source_code_info). The set has been checked: protodesc.NewFiles takes it. Files that the endpoint sends and service
// does not need are left out.
//
// A file that the endpoint lacks is left out, and so are its imports, if no type of the others is in it: then it was
// imported for options.
//
// The files that come with protoc (google/protobuf/*.proto) are always framegate's own: an endpoint need not offer
// them, and what it sends in their place is not looked at.
//
// Fetch asks v1, then v1alpha if v1 is UNIMPLEMENTED. It blocks until the answers are there or ctx ends: give it a
// deadline. What an endpoint may make it hold is bounded by MaxFiles, MaxBytes and the other bounds in budget.go.
// There is at most one request for each file. Errors: ErrMissing, ErrUnimplemented, *AnswerError, *ProtocolError,
// *LimitError, the stream's own ones, wrapped.
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
