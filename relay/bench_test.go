package relay

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/handler"
)

// A call that is relayed allocates nothing but a grpc-timeout of its own, and a DATA frame nothing at all.
func TestCalls_Allocate(t *testing.T) {
	for name, observers := range observing {
		t.Run(name, func(t *testing.T) {
			x := newEngine(t, 10, 100, observers()...)
			for range 100 { // what is kept is there then
				x.calls()
			}
			require.Zero(t, testing.AllocsPerRun(100, x.calls))
		})
	}
}

// observing are the observers of calls.
var observing = map[string]func() []handler.Observer{
	"unobserved": func() []handler.Observer { return nil },
	"metrics": func() []handler.Observer {
		return []handler.Observer{admin.NewMetrics(admin.MetricsConfig{})}
	},
}

// DATA that is relayed allocates nothing, in neither direction.
func TestData_Allocates(t *testing.T) {
	x := newEngine(t, 1, 100)
	x.open()
	for range 100 {
		x.data()
	}
	require.Zero(t, testing.AllocsPerRun(1000, x.data))
}

// BenchmarkData is what a DATA frame of 16 KiB each way costs in user space.
func BenchmarkData(b *testing.B) {
	x := newEngine(b, 1, 100)
	x.open()
	b.SetBytes(2 * 16384)
	b.ReportAllocs()
	for b.Loop() {
		x.data()
	}
}

// BenchmarkRefused is what a call over the listener's max_calls costs in user space.
func BenchmarkRefused(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			x := newFullEngine(b, batch)
			b.ReportAllocs()
			for b.Loop() {
				x.refused()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/call")
		})
	}
}

// BenchmarkCalls is what the calls cost in user space: no socket is read or written.
func BenchmarkCalls(b *testing.B) {
	for name, observers := range observing {
		for _, batch := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/batch=%d", name, batch), func(b *testing.B) {
				x := newEngine(b, batch, 100, observers()...)
				b.ReportAllocs()
				for b.Loop() {
					x.calls()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/call")
			})
		}
	}
}
