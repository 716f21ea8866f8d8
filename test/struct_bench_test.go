package test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/test/testbed"
)

// BenchmarkStruct makes unary calls through a framegate in frame mode, in struct mode with rules that do not fire, and with
// one that changes the request. cpu-us/op is the CPU time of the whole process, client and server included: the difference
// is what struct mode costs a call.
func BenchmarkStruct(b *testing.B) {
	files := []string{testbed.EchoProto(b)}
	for _, mode := range []struct {
		name string
		to   via
	}{
		{"frame", proxied},
		{"looks", ruled(files, `[{on: request, when: 'message.message == "blocked"', action: reject}, {on: response, when: 'message.index < 0', action: drop}]`)},
		{"changes", ruled(files, `[{on: request, action: set, fields: {message: '"<" + message.message + ">"'}}]`)},
	} {
		for _, size := range []int{100, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%d bytes", mode.name, size), func(b *testing.B) {
				request, err := (&echo.Request{Message: "hello", Payload: make([]byte, size)}).Marshal(nil)
				if err != nil {
					b.Fatal(err)
				}
				cc := testbed.DialGRPC(b, mode.to(b, testbed.NewRaw(b, echoAll)))
				unary := func(next func() bool) {
					for next() {
						var reply []byte
						if err := cc.Invoke(b.Context(), "/echo.Echo/Say", &request, &reply, grpc.WaitForReady(true)); err != nil {
							b.Error(err)
							return
						}
					}
				}
				warm := 0
				unary(func() bool { warm++; return warm <= 100 })
				b.ReportAllocs()
				b.SetParallelism(16)
				b.ResetTimer()
				before := cpuTime(b)
				b.RunParallel(func(pb *testing.PB) { unary(pb.Next) })
				b.ReportMetric(float64((cpuTime(b)-before)/time.Nanosecond)/1000/float64(b.N), "cpu-us/op")
			})
		}
	}
}
