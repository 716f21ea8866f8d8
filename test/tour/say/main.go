// Command say calls echo.Echo/Say with grpc-go and prints each different answer with the number of calls that got it. With
// --chat it sends words on a stream of echo.Echo/Chat and prints the answers. The README uses it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/test/tour/codec"
)

func main() {
	target := flag.String("target", "127.0.0.1:8888", "address to call")
	calls := flag.Int("calls", 1, "number of calls, up to 100000")
	message := flag.String("message", "hello", "message of each call")
	chat := flag.String("chat", "", "words to send on one stream instead, each a message")
	header := flag.String("H", "", "request header, key=value")
	flag.Parse()
	if *calls < 1 || *calls > 100_000 {
		log.Fatalf("say: --calls: %d, want 1 to 100000", *calls)
	}
	cc, err := grpc.NewClient(*target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(codec.Proto{})))
	if err != nil {
		log.Fatalln("say:", err)
	}
	defer cc.Close()
	if *chat != "" {
		if err := talk(cc, strings.Fields(*chat), *header); err != nil {
			fmt.Println(describe(err))
		}
		return
	}
	answers := map[string]int{}
	for range *calls {
		answers[say(cc, *message, *header)]++
	}
	for _, a := range slices.Sorted(maps.Keys(answers)) {
		fmt.Printf("%6d  %s\n", answers[a], a)
	}
}

// say makes one call and returns the answer, or what went wrong.
func say(cc *grpc.ClientConn, message, header string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ctx = withHeader(ctx, header)
	var reply echo.Reply
	if err := cc.Invoke(ctx, "/echo.Echo/Say", &echo.Request{Message: message}, &reply); err != nil {
		return describe(err)
	}
	return reply.Message
}

// withHeader returns ctx for calls that have the header key=value; header may be empty.
func withHeader(ctx context.Context, header string) context.Context {
	if k, v, ok := strings.Cut(header, "="); ok {
		return metadata.AppendToOutgoingContext(ctx, k, v)
	}
	return ctx
}

func describe(err error) string {
	return fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message())
}

// talk sends each word as a message of one stream, and prints the answers.
func talk(cc *grpc.ClientConn, words []string, header string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stream, err := cc.NewStream(withHeader(ctx, header), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/echo.Echo/Chat")
	if err != nil {
		return err
	}
	for _, w := range words {
		if err := stream.SendMsg(&echo.Request{Message: w}); err != nil {
			break // RecvMsg returns the reason
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		var reply echo.Reply
		if err := stream.RecvMsg(&reply); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		fmt.Println(reply.Message)
	}
}
