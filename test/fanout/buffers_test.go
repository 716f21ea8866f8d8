package fanout

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// Kitex gives a slice that it has sent back to an allocator if its capacity ends in a mark. A message is sent to several targets:
// if they shared a slice that a client lets end in the mark, it would be overwritten while another target still reads it.
func TestFanout_TargetsShareNoBuffer(t *testing.T) {
	for _, plane := range []string{conf.DataPlaneRelay, conf.DataPlaneKitex} {
		t.Run(plane, func(t *testing.T) {
			t.Parallel()
			const targets = 5
			var list []string
			for i := range targets {
				addr := testbed.NewRaw(t, func(s grpc.ServerStream) error {
					m, err := testbed.Recv(s)
					if err != nil {
						return err
					}
					return testbed.Send(s, field(1, field(1, m)))
				})
				list = append(list, fmt.Sprintf(`{address: %q, tags: {node: n%d}}`, addr, i))
			}
			shadows := fmt.Sprintf("mirrors: [{name: one, backend: {endpoints: [%s]}}, {name: two, backend: {endpoints: [%s]}}]\n", list[0], list[1])
			p := testbed.NewProxy(t, route("["+strings.Join(list, ", ")+"]", "frame", "methods: {unary: [\"*\"]}")+shadows, testbed.On(plane))
			cc := testbed.DialGRPC(t, p.Addr)
			var calls sync.WaitGroup
			failures := make(chan error, 8)
			for worker := range 8 {
				calls.Go(func() {
					for i := range 60 {
						// With its prefix of 5 bytes and 8 bytes of spare room, the piece has a size that the allocator deals in.
						message := bytes.Repeat([]byte{byte(worker)}, 1<<(6+i%9)-13)
						binary.NativeEndian.PutUint64(message[len(message)-8:], 0xBADC0DEBADC0DEFF)
						reply, err := testbed.Unary(t.Context(), cc, message)
						if err == nil && bytes.Count(reply, message) != targets {
							err = fmt.Errorf("a message of %d bytes is %d times in the reply, want %d", len(message), bytes.Count(reply, message), targets)
						}
						if err != nil {
							failures <- err
							return
						}
					}
				})
			}
			calls.Wait()
			close(failures)
			for err := range failures {
				require.NoError(t, err)
			}
		})
	}
}
