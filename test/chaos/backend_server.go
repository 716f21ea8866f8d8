package chaos

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// gracePeriod is how long a backend waits for its calls after SIGTERM.
const gracePeriod = 500 * time.Millisecond

// runBackend is the main function of a backend process: it serves on args[0], appends the number of each call to the file
// args[1], and prints its address. It returns the exit code.
func runBackend(args []string) int {
	if err := serveBackend(args[0], args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "backend process:", err)
		return 1
	}
	return 0
}

func serveBackend(address, record string) error {
	f, err := os.OpenFile(record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s := grpc.NewServer(
		grpc.InTapHandle(recordTo(f)),
		grpc.UnknownServiceHandler(answer),
		grpc.MaxRecvMsgSize(math.MaxInt32),
	)
	healthgrpc.RegisterHealthServer(s, health.NewServer())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(ended)
		defer time.AfterFunc(gracePeriod, s.Stop).Stop()
		s.GracefulStop()
	})()
	fmt.Println(ln.Addr())
	if err := s.Serve(ln); err != nil {
		return err
	}
	<-ended // Serve returns when the listener closes; calls are still under way
	return nil
}

// recordTo returns a handle that appends the number of a call to f as soon as its headers have been read, before the server
// does anything else with it. So a call that is not in the record was not seen. What is written to f survives kill -9.
func recordTo(f *os.File) tap.ServerInHandle {
	return func(ctx context.Context, info *tap.Info) (context.Context, error) {
		v := info.Header.Get(IDKey)
		if len(v) == 0 {
			return ctx, nil
		}
		id, err := strconv.ParseUint(v[0], 10, 64)
		if err != nil {
			return ctx, status.Errorf(codes.InvalidArgument, "%s: %q, want a number", IDKey, v[0])
		}
		if _, err := f.Write(binary.LittleEndian.AppendUint64(nil, id)); err != nil {
			return ctx, status.Errorf(codes.Internal, "record of calls: %v", err)
		}
		return ctx, nil
	}
}

// answer handles the calls of all methods of Service.
func answer(_ any, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	delay, err := valueOf(md, DelayKey, 0, time.ParseDuration)
	if err != nil {
		return err
	}
	count, err := valueOf(md, CountKey, 1, strconv.Atoi)
	if err != nil {
		return err
	}
	switch method, _ := grpc.MethodFromServerStream(stream); method {
	case UnaryMethod, ServerMethod:
		return answerOne(stream, delay, count)
	case ClientMethod:
		return answerLast(stream, delay)
	case BidiMethod:
		return answerEach(stream, delay)
	default:
		return status.Errorf(codes.Unimplemented, "no method %s", method)
	}
}

func valueOf[T any](md metadata.MD, key string, absent T, parse func(string) (T, error)) (T, error) {
	v := md.Get(key)
	if len(v) == 0 {
		return absent, nil
	}
	value, err := parse(v[0])
	if err != nil {
		return absent, status.Errorf(codes.InvalidArgument, "%s: %v", key, err)
	}
	return value, nil
}

// wait returns nil after d, or an error when ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

func answerOne(stream grpc.ServerStream, delay time.Duration, count int) error {
	m := new(wrapperspb.BytesValue)
	if err := stream.RecvMsg(m); err != nil {
		return err
	}
	if err := wait(stream.Context(), delay); err != nil {
		return err
	}
	for range count {
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
	return nil
}

func answerLast(stream grpc.ServerStream, delay time.Duration) error {
	last := new(wrapperspb.BytesValue)
	for {
		m := new(wrapperspb.BytesValue)
		switch err := stream.RecvMsg(m); {
		case errors.Is(err, io.EOF):
			if err := wait(stream.Context(), delay); err != nil {
				return err
			}
			return stream.SendMsg(last)
		case err != nil:
			return err
		}
		last = m
	}
}

func answerEach(stream grpc.ServerStream, delay time.Duration) error {
	for {
		m := new(wrapperspb.BytesValue)
		switch err := stream.RecvMsg(m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := wait(stream.Context(), delay); err != nil {
			return err
		}
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
}
