package frame

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// kept has the messages of at most most bytes, and the lengths of the others.
type kept struct {
	most    int64
	all     []Message
	skipped []int64
}

func (k *kept) Wants(length int64) bool {
	if length > k.most {
		k.skipped = append(k.skipped, length)
		return false
	}
	return true
}

func (k *kept) Message(m Message) { k.all = append(k.all, m) }

func TestAssembler_GetsBackWhatACursorHasRead(t *testing.T) {
	t.Parallel()
	all := []Message{{Payload: []byte{}}, {Flag: 1, Payload: []byte("a")}, {Payload: []byte("too long")}, {Payload: []byte{}}, {Flag: 1, Payload: []byte("abcde")}}
	for n := 1; n < 40; n++ {
		k := &kept{most: 5}
		a, c, waiting := Assembler{To: k}, Cursor{}, all
		for len(waiting) > 0 {
			p := make([]byte, n)
			length := 0
			for length < n && len(waiting) > 0 {
				k, whole := c.Read(p[length:], waiting[0])
				if length += k; whole {
					waiting = waiting[1:]
				}
			}
			a.Add(p[:length])
			for i := range p {
				p[i] = 0xff // the messages have memory of their own
			}
		}
		require.Equal(t, []Message{all[0], all[1], all[3], all[4]}, k.all, "%d bytes at a time", n)
		require.Equal(t, []int64{8}, k.skipped)
	}
}
