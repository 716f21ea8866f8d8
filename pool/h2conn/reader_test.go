package h2conn

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/cloudwego/netpoll"
	"github.com/stretchr/testify/require"
)

// chunked gives the bytes of data in pieces of random sizes, as sockets do, then io.EOF.
type chunked struct {
	rnd  *rand.Rand
	data []byte
	max  int // of one piece
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+c.rnd.IntN(c.max))], c.data)
	c.data = c.data[n:]
	return n, nil
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// readerModel checks a Reader against the bytes that it was given.
type readerModel struct {
	t    *testing.T
	rnd  *rand.Rand
	r    *Reader
	data []byte
	pos  int
	live []liveSlice
}

// liveSlice is a slice that the Reader lent until Release, and what it must hold.
type liveSlice struct{ got, want []byte }

func (m *readerModel) size() int {
	n := m.rnd.IntN(64)
	switch m.rnd.IntN(10) {
	case 0:
		n = m.rnd.IntN(bufferSize + 1)
	case 1, 2:
		n = m.rnd.IntN(16<<10 + 9)
	}
	return min(n, len(m.data)-m.pos)
}

func (m *readerModel) lent(got []byte, err error, n int) {
	m.t.Helper()
	want := m.data[m.pos : m.pos+n]
	m.check(got, err, want)
	require.Equal(m.t, len(got), cap(got), "a lent slice must not be able to grow into what follows")
	m.live = append(m.live, liveSlice{got, want})
}

func (m *readerModel) check(got []byte, err error, want []byte) {
	m.t.Helper()
	require.NoError(m.t, err)
	if !bytes.Equal(got, want) {
		m.t.Fatalf("at %d: got %d bytes that differ from the %d wanted", m.pos, len(got), len(want))
	}
}

func (m *readerModel) checkLive() {
	m.t.Helper()
	for _, s := range m.live {
		if !bytes.Equal(s.got, s.want) {
			m.t.Fatalf("before %d: a slice of %d bytes changed before Release", m.pos, len(s.got))
		}
	}
}

func (m *readerModel) release() {
	m.t.Helper()
	m.checkLive()
	m.live = nil
	require.NoError(m.t, m.r.Release())
}

func (m *readerModel) step() {
	m.t.Helper()
	n := m.size()
	switch m.rnd.IntN(12) {
	case 0, 1, 2, 3:
		p, err := m.r.Next(n)
		m.lent(p, err, n)
	case 4:
		p, err := m.r.Peek(n)
		m.lent(p, err, n)
		return
	case 5:
		p, err := m.r.ReadBinary(n)
		m.check(p, err, m.data[m.pos:m.pos+n])
		clear(p) // it is the caller's
	case 6:
		s, err := m.r.ReadString(n)
		m.check([]byte(s), err, m.data[m.pos:m.pos+n])
	case 7:
		require.NoError(m.t, m.r.Skip(n))
	case 8:
		n = min(1, len(m.data)-m.pos)
		if n == 1 {
			b, err := m.r.ReadByte()
			m.check([]byte{b}, err, m.data[m.pos:m.pos+1])
		}
	case 9:
		p := make([]byte, n)
		n, err := m.r.Read(p)
		m.check(p[:n], err, m.data[m.pos:m.pos+n])
		if len(p) > 0 {
			require.NotZero(m.t, n)
		}
		m.pos += n
		return
	case 10:
		m.checkLive() // Slice releases
		m.live = nil
		s, err := m.r.Slice(n)
		require.NoError(m.t, err)
		require.Equal(m.t, n, s.Len())
		p, err := s.Next(n)
		m.check(p, err, m.data[m.pos:m.pos+n])
		_, err = s.Next(1)
		require.ErrorIs(m.t, err, io.EOF)
	case 11:
		delim := byte(m.rnd.Uint32())
		i := bytes.IndexByte(m.data[m.pos:], delim)
		if i < 0 || i >= bufferSize {
			return
		}
		n = i + 1
		p, err := m.r.Until(delim)
		m.lent(p, err, n)
	}
	m.pos += n
	require.LessOrEqual(m.t, m.r.Len(), len(m.data)-m.pos)
}

// Whatever is asked for, in whatever pieces the bytes come and however often Release is left out, the bytes are those
// of the connection, and a lent slice stays as it is until Release.
func TestReader_EqualsTheByteStream(t *testing.T) {
	for seed := range uint64(27) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		data := randomBytes(rnd, 600<<10)
		var seen []byte
		src := &chunked{rnd: rnd, data: data, max: []int{1 << 20, 20 << 10, 700}[seed%3]}
		m := &readerModel{t: t, rnd: rnd, data: data, r: NewReader(src, func(p []byte) { seen = append(seen, p...) })}
		skipRelease := []int{0, 3, 50}[seed/3%3] // of 100
		for m.pos < len(data) {
			for range 1 + rnd.IntN(3) {
				m.step()
			}
			if rnd.IntN(100) >= skipRelease {
				m.release()
			}
		}
		m.release()
		_, err := m.r.Next(1)
		require.ErrorIs(t, err, io.EOF, "seed %d", seed)
		require.True(t, bytes.Equal(data, seen), "seed %d: seen must be shown every byte once and in order", seed)
	}
}

func TestReader_NetpollContract(t *testing.T) {
	newReader := func(s string) netpoll.Reader { return NewReader(bytes.NewReader([]byte(s)), nil) }
	t.Run("a short Next consumes nothing", func(t *testing.T) {
		r := newReader("abc")
		_, err := r.Next(4)
		require.ErrorIs(t, err, io.EOF)
		p, err := r.Next(3)
		require.NoError(t, err)
		require.Equal(t, "abc", string(p))
	})
	t.Run("Until", func(t *testing.T) {
		r := newReader("one\ntwo\nrest")
		for _, want := range []string{"one\n", "two\n"} {
			p, err := r.Until('\n')
			require.NoError(t, err)
			require.Equal(t, want, string(p))
		}
		p, err := r.Until('\n')
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, "rest", string(p), "what is left comes with the error")
	})
	t.Run("Read gives what is there", func(t *testing.T) {
		r := NewReader(io.MultiReader(bytes.NewReader([]byte("ab")), bytes.NewReader([]byte("cd"))), nil)
		p := make([]byte, 10)
		n, err := r.Read(p)
		require.NoError(t, err)
		require.Equal(t, "ab", string(p[:n]))
		n, err = r.Read(nil)
		require.NoError(t, err)
		require.Zero(t, n)
	})
	t.Run("ReadByte and ReadString at the end", func(t *testing.T) {
		r := newReader("")
		_, err := r.ReadByte()
		require.ErrorIs(t, err, io.EOF)
		_, err = r.ReadString(1)
		require.ErrorIs(t, err, io.EOF)
		_, err = r.Slice(1)
		require.ErrorIs(t, err, io.EOF)
	})
	t.Run("more than a buffer", func(t *testing.T) {
		r := NewReader(endless{}, nil)
		_, err := r.Next(bufferSize + 1)
		require.ErrorIs(t, err, errTooLong)
		_, err = r.Until('x')
		require.ErrorIs(t, err, errTooLong)
	})
	t.Run("an error of the connection comes after its last bytes", func(t *testing.T) {
		broken := errors.New("broken")
		r := NewReader(io.MultiReader(bytes.NewReader([]byte("ab")), failing{broken}), nil)
		p, err := r.Next(2)
		require.NoError(t, err)
		require.Equal(t, "ab", string(p))
		_, err = r.Next(1)
		require.ErrorIs(t, err, broken)
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Kitex leaves out Release after a stream error: a peer that makes errors for ever must not make the reader grow.
func TestReader_MemoryIsBoundedWithoutRelease(t *testing.T) {
	r := NewReader(endless{}, nil)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for range 8 {
		for range 500 { // 8 MB
			_, err := r.Next(frameHeaderLen)
			require.NoError(t, err)
			_, err = r.Next(16 << 10)
			require.NoError(t, err)
		}
		if now := heap(); now > before+4*bufferSize {
			t.Fatalf("the heap grew by %d bytes, want at most %d", now-before, 4*bufferSize)
		}
	}
	require.NotNil(t, r)
}

func readFrames(t testing.TB, r *Reader, n int) {
	for i := range n {
		_, err1 := r.Next(frameHeaderLen)
		_, err2 := r.Next([]int{0, 5, 1000, 16 << 10}[i%4])
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		_ = r.Release()
	}
}

func TestReader_AllocatesNothingPerFrame(t *testing.T) {
	r := NewReader(endless{}, func([]byte) {})
	readFrames(t, r, 100)
	if got := testing.AllocsPerRun(100, func() { readFrames(t, r, 100) }); got != 0 {
		t.Errorf("got %v allocations for 100 frames, want 0", got)
	}
}

func BenchmarkReader_Frames(b *testing.B) {
	b.ReportAllocs()
	r := NewReader(endless{}, nil)
	for b.Loop() {
		readFrames(b, r, 4)
	}
}
