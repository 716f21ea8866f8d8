package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/bytedance/gopkg/lang/mcache"
	"github.com/stretchr/testify/require"
)

// fullReader reads like grpc.Stream: Read fills p or fails.
type fullReader struct{ src io.Reader }

func (r fullReader) Read(p []byte) (int, error) { return io.ReadFull(r.src, p) }

// pieces collects what is written, and checks what Kitex demands of each piece.
type pieces struct {
	t        testing.TB
	got      bytes.Buffer
	most     int
	recycled bool // what Piece returned last
}

func (w *pieces) Piece(n int) []byte {
	w.recycled = !w.recycled
	if w.recycled {
		return RecycledPiece(n)
	}
	return KeptPiece(n)
}

func (w *pieces) Write(p []byte) error {
	require.GreaterOrEqual(w.t, cap(p)-len(p), spareLen)
	want := make([]byte, spareLen)
	if w.recycled {
		binary.NativeEndian.PutUint64(want, recycleMark)
	}
	require.Equal(w.t, want, p[:cap(p)][cap(p)-spareLen:], "the end of the capacity")
	w.most = max(w.most, len(p))
	w.got.Write(p)
	return nil
}

func frame(flag byte, payload []byte) []byte {
	b := append([]byte{flag}, binary.BigEndian.AppendUint32(nil, uint32(len(payload)))...)
	return append(b, payload...)
}

func redirectBytes(t testing.TB, in []byte, maxBytes int64) (*Redirect, *pieces, error) {
	out := &pieces{t: t}
	r := &Redirect{Src: fullReader{bytes.NewReader(in)}, Dst: out, MaxBytes: maxBytes}
	return r, out, r.RedirectFrame()
}

func TestRedirectFrame_CopiesFramesUnchangedInPieces(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var in []byte
	sizes := []int{0, 1, pieceLen - PrefixLen, pieceLen - PrefixLen + 1, pieceLen, pieceLen + 1, 2 * pieceLen, 200_000, 5}
	for _, n := range sizes {
		payload := make([]byte, n)
		for i := range payload {
			payload[i] = byte(rnd.Uint32())
		}
		in = append(in, frame(byte(n&1), payload)...)
	}
	r, out, err := redirectBytes(t, in, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(in, out.got.Bytes()))
	require.LessOrEqual(t, out.most, pieceLen)
	require.EqualValues(t, len(sizes), r.Messages)
	require.EqualValues(t, len(in), r.Bytes)
}

func TestRedirectFrame_ForwardsNothingBehindAnError(t *testing.T) {
	whole := frame(0, []byte("whole"))
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		tail io.Reader
		want error
	}{
		"bad flag":             {bytes.NewReader([]byte{2, 0, 0, 0, 1, 'x'}), ErrBadFlag},
		"over the limit":       {bytes.NewReader([]byte{0, 0, 0, 4, 1}), ErrTooLarge},
		"largest length":       {bytes.NewReader([]byte{0, 0xff, 0xff, 0xff, 0xff}), ErrTooLarge},
		"end in the prefix":    {bytes.NewReader([]byte{0, 0}), ErrTruncated},
		"end after the prefix": {bytes.NewReader([]byte{0, 0, 0, 0, 9}), ErrTruncated},
		"end in the payload":   {bytes.NewReader([]byte{0, 0, 0, 0, 9, 'x'}), ErrTruncated},
		"read error":           {errReader{broken}, broken},
	} {
		t.Run(name, func(t *testing.T) {
			out := &pieces{t: t}
			r := &Redirect{Src: fullReader{io.MultiReader(bytes.NewReader(whole), c.tail)}, Dst: out, MaxBytes: 1024}
			require.ErrorIs(t, r.RedirectFrame(), c.want)
			require.Equal(t, whole, out.got.Bytes())
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func FuzzRedirectFrame(f *testing.F) {
	f.Add(frame(0, []byte("hello")), int64(0))
	f.Add(append(frame(1, nil), frame(0, make([]byte, 40_000))...), int64(50_000))
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff}, int64(64<<20))
	f.Fuzz(func(t *testing.T, in []byte, maxBytes int64) {
		maxBytes &= 1<<40 - 1
		_, out, err := redirectBytes(t, in, maxBytes)
		require.True(t, bytes.HasPrefix(in, out.got.Bytes()))
		if err == nil {
			require.Equal(t, len(in), out.got.Len())
		}
		if maxBytes > 0 && errors.Is(err, ErrTooLarge) {
			at := out.got.Len()
			require.Greater(t, int64(binary.BigEndian.Uint32(in[at+1:])), maxBytes)
		}
	})
}

type nowhere struct{}

func (nowhere) Piece(n int) []byte { return RecycledPiece(n) }
func (nowhere) Write(p []byte) error {
	mcache.Free(p) // as Kitex does
	return nil
}

func BenchmarkRedirectStep(b *testing.B) {
	for _, size := range []int{100, 64 << 10} {
		in := frame(0, make([]byte, size))
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			src := bytes.NewReader(in)
			r := &Redirect{Src: fullReader{src}, Dst: nowhere{}}
			for b.Loop() {
				src.Reset(in)
				if err := r.RedirectFrame(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// passTaker forwards every message as it came.
type passTaker struct{}

func (passTaker) TakeMessage(_ byte, payload []byte) ([]byte, bool, error) { return payload, true, nil }

func TestRedirect_HoldsNoLargeMessageBetweenTwo(t *testing.T) {
	small, large := frame(0, make([]byte, 100)), frame(0, make([]byte, 4*wholeKept))
	in := append(append([]byte{}, small...), large...)
	out := &pieces{t: t}
	r := Redirect{Src: fullReader{bytes.NewReader(in)}, Dst: out, Taker: passTaker{}}
	for _, kept := range []bool{true, false} {
		for range 2 { // taken, forwarded
			_, err := r.Step()
			require.NoError(t, err)
		}
		require.Equal(t, kept, r.whole != nil)
		require.Nil(t, r.Held)
	}
	require.Equal(t, in, out.got.Bytes())
	require.LessOrEqual(t, out.most, pieceLen)
}
