// Command say calls echo.Echo/Say with grpc-go and prints how many calls each answer was given to. The README's tour uses
// it.
package main

import (
	"context"
	"flag"
	"fmt"
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
	answers := map[string]int{}
	for range *calls {
		answers[say(cc, *header)]++
	}
	for _, a := range slices.Sorted(maps.Keys(answers)) {
		fmt.Printf("%6d  %s\n", answers[a], a)
	}
}

// say makes one call and returns the answer, or what went wrong.
func say(cc *grpc.ClientConn, header string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if k, v, ok := strings.Cut(header, "="); ok {
		ctx = metadata.AppendToOutgoingContext(ctx, k, v)
	}
	var reply echo.Reply
	if err := cc.Invoke(ctx, "/echo.Echo/Say", &echo.Request{Message: "hello"}, &reply); err != nil {
		return fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message())
	}
	return reply.Message
}
