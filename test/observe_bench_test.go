package test

import (
	"context"
	"io"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/accesslog"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/resolver/cluster"
)

// BenchmarkObserve makes unary calls through a proxy with nothing measured, and with metrics and an access log of 1 call
// in 100. cpu-us/op is the CPU time of the whole process, client and server included: the difference is what measuring
// costs a call.
func BenchmarkObserve(b *testing.B) {
	for _, measured := range []bool{false, true} {
		b.Run(map[bool]string{false: "nothing", true: "metrics and log"}[measured], func(b *testing.B) {
			cfg := handler.Config{Router: handlertest.To(cluster.Target{
				Route: "r", Pattern: "*", Backend: "b", Address: handlertest.Backend(b, handlertest.Echo)})}
			if measured {
				log := accesslog.New(io.Discard, accesslog.Config{Sample: 0.01, Errors: true})
				b.Cleanup(func() { _ = log.Close() })
				cfg.Observers = []handler.Observer{admin.NewMetrics(admin.MetricsConfig{}), log}
			}
			_, cc := handlertest.Start(b, cfg)
			unary := func(n int, next func() bool) {
				msg, reply := make([]byte, 100), []byte(nil)
				for i := 0; i < n || next != nil && next(); i++ {
					if err := cc.Invoke(context.Background(), "/echo.Echo/Say", &msg, &reply, grpc.WaitForReady(true)); err != nil {
						b.Error(err)
						return
					}
				}
			}
			unary(100, nil)
			b.ReportAllocs()
			b.SetParallelism(32)
			before := cpuTime(b)
			b.RunParallel(func(pb *testing.PB) { unary(0, pb.Next) })
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
		})
	}
}

// cpuTime is the CPU time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
