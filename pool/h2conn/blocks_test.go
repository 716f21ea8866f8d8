package h2conn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// judgeFunc is a Judge.
type judgeFunc func(b *Block) Verdict

func (f judgeFunc) Judge(b *Block) Verdict { return f(b) }

// sender makes the bytes of one direction of a connection, as a peer that uses all of HPACK does.
type sender struct {
	wire  bytes.Buffer
	fr    *http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
}

func newSender() *sender {
	s := &sender{}
	s.fr = http2.NewFramer(&s.wire, nil)
	s.fr.AllowIllegalWrites = true
	s.enc = hpack.NewEncoder(&s.block)
	return s
}

// headers writes a block in fragments of at most size bytes. padding and priority are those of the HEADERS frame.
func (s *sender) headers(stream uint32, end bool, size int, padding uint8, priority bool, fields ...hpack.HeaderField) {
	s.block.Reset()
	for _, f := range fields {
		_ = s.enc.WriteField(f)
	}
	s.raw(stream, end, size, padding, priority, s.block.Bytes())
}

func (s *sender) raw(stream uint32, end bool, size int, padding uint8, priority bool, block []byte) {
	n := min(size, len(block))
	p := http2.HeadersFrameParam{StreamID: stream, EndStream: end, PadLength: padding, BlockFragment: block[:n], EndHeaders: n == len(block)}
	if priority {
		p.Priority = http2.PriorityParam{StreamDep: 5, Weight: 9}
	}
	_ = s.fr.WriteHeaders(p)
	for block = block[n:]; len(block) > 0; block = block[n:] {
		n = min(size, len(block))
		_ = s.fr.WriteContinuation(stream, n == len(block), block[:n])
	}
}

// got is a frame as a transport reads it.
type got struct {
	kind   http2.FrameType
	stream uint32
	end    bool
	fields string // of HEADERS, with their CONTINUATIONs
	data   string
}

func fieldsText(fields []hpack.HeaderField) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "%s=%s;", f.Name, f.Value)
	}
	return b.String()
}

// receiveAll reads frames as a transport with a table of its own does.
func receiveAll(r io.Reader) (all []got, err error) {
	fr := http2.NewFramer(io.Discard, r)
	fr.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	fr.MaxHeaderListSize = 16 << 20
	fr.SetMaxReadFrameSize(maxFrame)
	for {
		f, err := fr.ReadFrame()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			all = append(all, got{kind: http2.FrameHeaders, stream: f.StreamID, end: f.StreamEnded(), fields: fieldsText(f.Fields)})
		case *http2.DataFrame:
			all = append(all, got{kind: http2.FrameData, stream: f.StreamID, end: f.StreamEnded(), data: string(f.Data())})
		default:
			all = append(all, got{kind: f.Header().Type, stream: f.Header().StreamID})
		}
	}
}

// randomFields are fields of which many have come before, as in calls.
func randomFields(rnd *rand.Rand) []hpack.HeaderField {
	fields := []hpack.HeaderField{{Name: ":status", Value: "200"}}
	for range rnd.IntN(8) {
		f := hpack.HeaderField{Name: fmt.Sprintf("x-name-%d", rnd.IntN(12)), Value: fmt.Sprintf("value %d", rnd.IntN(6))}
		switch rnd.IntN(12) {
		case 0:
			f.Value = strings.Repeat("long", rnd.IntN(1500)) // sometimes more than the table has room for
		case 1:
			f.Sensitive = true
		case 2:
			f.Value = string(randomBytes(rnd, rnd.IntN(300)))
			f.Value = strings.Map(func(r rune) rune { return 'a' + r%26 }, f.Value)
		}
		fields = append(fields, f)
	}
	return fields
}

// What the judge passes reaches the transport byte by byte; what it changes reaches it changed, and everything else as it
// was, whatever has become of the table and however the socket cuts the bytes.
func TestBlocks_TransportGetsWhatTheJudgeLeaves(t *testing.T) {
	for seed := range uint64(15) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		alters := seed%3 != 0
		s := newSender()
		var want []got
		for stream := uint32(1); stream < 600; stream += 2 {
			switch rnd.IntN(4) {
			case 0:
				data := strings.Repeat("d", rnd.IntN(3000))
				_ = s.fr.WriteData(stream, false, []byte(data))
				want = append(want, got{kind: http2.FrameData, stream: stream, data: data})
			case 1:
				_ = s.fr.WritePing(false, [8]byte{})
				want = append(want, got{kind: http2.FramePing})
			}
			if rnd.IntN(20) == 0 {
				s.enc.SetMaxDynamicTableSize(uint32(rnd.IntN(tableSize + 1)))
			}
			fields, end := randomFields(rnd), rnd.IntN(2) == 0
			verdict := Pass
			if alters {
				verdict = []Verdict{Pass, Pass, Pass, Pass, Pass, Rewrite, Drop, End, Reset}[rnd.IntN(9)]
			}
			fields = append(fields, hpack.HeaderField{Name: "verdict", Value: fmt.Sprint(int(verdict))})
			s.headers(stream, end, 1+rnd.IntN(8000), uint8(rnd.IntN(2)*rnd.IntN(200)), rnd.IntN(5) == 0, fields...)
			switch verdict {
			case Pass:
				want = append(want, got{kind: http2.FrameHeaders, stream: stream, end: end, fields: fieldsText(fields)})
			case Rewrite:
				want = append(want, got{kind: http2.FrameHeaders, stream: stream, end: true, fields: fieldsText(fields) + "more=of it;"})
			case End:
				want = append(want, got{kind: http2.FrameData, stream: stream, end: true})
			case Reset:
				want = append(want, got{kind: http2.FrameRSTStream, stream: stream})
			}
		}
		judge := judgeFunc(func(b *Block) Verdict {
			if b.TooLong {
				t.Errorf("seed %d: stream %d is too long", seed, b.Stream)
			}
			if b.Again {
				return Pass
			}
			v := Verdict(b.Fields[len(b.Fields)-1].Value[0] - '0')
			if v == Rewrite {
				b.Fields, b.EndStream = append(b.Fields, hpack.HeaderField{Name: "more", Value: "of it"}), true
			}
			return v
		})
		wire := bytes.Clone(s.wire.Bytes())
		src := &chunked{rnd: rnd, data: wire, max: 1 + rnd.IntN(20_000)}
		got, err := receiveAll(NewBlocks(src, BlocksConfig{Judge: judge, MaxList: 64 << 10, MaxBytes: 1 << 20}))
		require.NoError(t, err, "seed %d", seed)
		require.Equal(t, want, got, "seed %d", seed)
	}
}

// A block that comes again is judged by what it says, not by its bytes: these say something else once the table has
// changed.
func TestBlocks_WhatComesAgainSaysTheSame(t *testing.T) {
	again := 0
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 21))
		kinds := make([][]hpack.HeaderField, 6)
		for i := range kinds {
			kinds[i] = []hpack.HeaderField{
				{Name: ":path", Value: fmt.Sprintf("/echo.Echo/%d", rnd.IntN(3)), Sensitive: rnd.IntN(2) == 0},
				{Name: fmt.Sprintf("x-%d", i), Value: strings.Repeat("v", rnd.IntN(200)), Sensitive: rnd.IntN(4) == 0},
			}
		}
		s := newSender()
		said := map[uint32]string{}
		bad := func(text string) bool { return strings.Contains(text, "x-0") }
		var want []got
		alters := seed%4 == 0
		for stream := uint32(1); stream < 1000; stream += 2 {
			fields, end := kinds[rnd.IntN(len(kinds))], rnd.IntN(2) == 0
			if rnd.IntN(40) == 0 { // it takes the place of another: all others have another index now
				fields = append(fields[:2:2], hpack.HeaderField{Name: "x-new", Value: strings.Repeat("n", rnd.IntN(1000))})
			}
			if rnd.IntN(200) == 0 {
				s.enc.SetMaxDynamicTableSize(uint32(rnd.IntN(tableSize + 1)))
			}
			size := maxFrame
			if rnd.IntN(10) == 0 {
				size = 3
			}
			s.headers(stream, end, size, uint8(rnd.IntN(2)*rnd.IntN(200)), rnd.IntN(5) == 0, fields...)
			said[stream] = fmt.Sprint(end, fieldsText(fields))
			if !alters || !bad(said[stream]) {
				want = append(want, got{kind: http2.FrameHeaders, stream: stream, end: end, fields: fieldsText(fields)})
			}
		}
		passed := map[string]bool{}
		judge := judgeFunc(func(b *Block) Verdict {
			text := said[b.Stream]
			if b.Again {
				again++
				require.Empty(t, b.Fields)
				require.True(t, passed[text], "seed %d, stream %d: %s has not passed", seed, b.Stream, text)
				return Pass
			}
			require.Equal(t, text, fmt.Sprint(b.EndStream, fieldsText(b.Fields)), "seed %d", seed)
			if alters && bad(text) {
				return Drop
			}
			passed[text] = true
			return Pass
		})
		src := &chunked{rnd: rnd, data: bytes.Clone(s.wire.Bytes()), max: 1 + rnd.IntN(20_000)}
		got, err := receiveAll(NewBlocks(src, BlocksConfig{Judge: judge, MaxList: 64 << 10, MaxBytes: 1 << 20}))
		require.NoError(t, err, "seed %d", seed)
		require.Equal(t, want, got, "seed %d", seed)
	}
	require.Greater(t, again, 3000, "blocks that came again")
}

// While all blocks pass, not even the way in which they were encoded and cut changes, but for those that a read has cut.
func TestBlocks_PassesBytesUntouched(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	s := newSender()
	for stream := uint32(1); stream < 400; stream += 2 {
		s.headers(stream, false, maxFrame, uint8(stream), true, randomFields(rnd)...)
		_ = s.fr.WriteData(stream, false, randomBytes(rnd, rnd.IntN(maxFrame)))
	}
	wire := bytes.Clone(s.wire.Bytes())
	pass := judgeFunc(func(*Block) Verdict { return Pass })
	b := NewBlocks(&chunked{rnd: rnd, data: bytes.Clone(wire), max: 3000}, BlocksConfig{Judge: pass, MaxList: 64 << 10, MaxBytes: 1 << 20})
	got, err := io.ReadAll(b)
	require.NoError(t, err)
	require.True(t, bytes.Equal(wire, got), "the bytes differ")
}

// A block that is too long, however it is made, costs its stream alone: what follows is decoded with the right table.
func TestBlocks_TooLongKeepsTheTable(t *testing.T) {
	raw := func(first byte, name string, length int, huffman bool) []byte { // a literal
		b := []byte{first}
		if name != "" {
			b = append(append(b, byte(len(name))), name...)
		}
		start := len(b)
		b = append(b, 0x7f)
		if huffman {
			b[start] |= 0x80
		}
		for rest := length - 0x7f; ; rest >>= 7 {
			if rest < 0x80 {
				b = append(b, byte(rest))
				break
			}
			b = append(b, byte(rest)|0x80)
		}
		c := byte('v')
		if huffman {
			c = 0x18 // 5 bits of "0" and so on: whatever it stands for
		}
		return append(b, bytes.Repeat([]byte{c}, length)...)
	}
	cases := map[string][]byte{
		"one field of 70,000 bytes":          raw(0x00, "big", 70_000, false),
		"one field of 5 MB":                  raw(0x00, "big", 5_000_000, false),
		"one indexed field of 5 MB":          raw(0x40, "big", 5_000_000, false),
		"never indexed":                      raw(0x10, "big", 100_000, false),
		"with a name of the static table":    raw(0x5f, "", 100_000, false),
		"with a name of the dynamic table":   raw(0x7e, "", 100_000, false),
		"Huffman-coded":                      raw(0x00, "big", 100_000, true),
		"many small fields":                  bytes.Repeat(raw(0x00, "small", 200, false), 2000),
		"many small indexed fields":          bytes.Repeat(raw(0x40, "small", 200, false), 2000),
		"many references to one large field": append(raw(0x40, "x", 3000, false), bytes.Repeat([]byte{0xbe}, 70_000)...),
		"references in one frame":            append(raw(0x40, "x", 3000, false), bytes.Repeat([]byte{0xbe}, 5_000)...),
		"long and short ones":                bytes.Repeat(append(raw(0x40, "large", 40_000, false), raw(0x40, "small", 200, false)...), 20),
	}
	for name, block := range cases {
		t.Run(name, func(t *testing.T) {
			const maxList = 64 << 10
			s := newSender()
			known := []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "known", Value: "one"}, {Name: "known-too", Value: "two"}}
			s.headers(1, false, maxFrame, 0, false, known...)
			s.raw(3, false, maxFrame, 0, false, append(bytes.Clone(s.block.Bytes()), block...))
			// What the peer's table is now, according to a decoder that holds everything.
			var want []hpack.HeaderField
			all := hpack.NewDecoder(tableSize, func(f hpack.HeaderField) { want = append(want, f) })
			_, err := all.Write(firstBlock(t, s.wire.Bytes()))
			require.NoError(t, err)
			require.NoError(t, all.Close())
			_, err = all.Write(append(bytes.Clone(s.block.Bytes()), block...))
			require.NoError(t, err)
			require.NoError(t, all.Close())
			// A field that is in the table of both, or in neither.
			probe := bytes.Repeat([]byte{0xbe}, 3)
			want = nil
			_, probeErr := all.Write(probe)

			s.raw(5, true, maxFrame, 0, false, probe)
			tooLong := map[uint32]bool{}
			var last []hpack.HeaderField
			judge := judgeFunc(func(b *Block) Verdict {
				tooLong[b.Stream] = b.TooLong
				if b.Stream == 5 {
					last = append(last, b.Fields...)
				}
				if b.TooLong {
					b.Fields = append(b.Fields[:0], tooLarge...)
					return Rewrite
				}
				return Pass
			})
			rnd := rand.New(rand.NewPCG(7, 7))
			b := NewBlocks(&chunked{rnd: rnd, data: bytes.Clone(s.wire.Bytes()), max: 1 << 16}, BlocksConfig{Judge: judge, MaxList: maxList, MaxBytes: 16 << 20})
			got, err := receiveAll(b)
			require.Less(t, cap(b.held)+cap(b.skipper.repr)+cap(b.frame)+cap(b.block.Fields)*40, 160<<10, "what is held of a long block")
			require.True(t, tooLong[3])
			if probeErr != nil {
				var blockErr *BlockError
				require.ErrorAs(t, err, &blockErr)
				require.Len(t, got, 2)
				return
			}
			require.NoError(t, err)
			require.Len(t, got, 3)
			require.Equal(t, fieldsText(tooLarge), got[1].fields)
			require.Equal(t, fieldsText(want), fieldsText(last))
			if len(got[2].fields) < maxList {
				require.Equal(t, fieldsText(want), got[2].fields)
			}
		})
	}
}

// firstBlock returns the fragment of the first frame, which is a whole block.
func firstBlock(t *testing.T, wire []byte) []byte {
	t.Helper()
	require.Equal(t, byte(http2.FrameHeaders), wire[3])
	return wire[frameHeaderLen : frameHeaderLen+payloadLen(wire)]
}

// What no HTTP/2 peer may send ends the connection, and says why.
func TestBlocks_RefusesWhatIsNoBlock(t *testing.T) {
	block := []byte{0x88}
	cases := map[string]struct {
		write func(s *sender)
		code  http2.ErrCode
	}{
		"a CONTINUATION alone":          {func(s *sender) { _ = s.fr.WriteContinuation(1, true, block) }, http2.ErrCodeProtocol},
		"DATA inside of a block":        {func(s *sender) { s.open(block); _ = s.fr.WriteData(1, true, nil) }, http2.ErrCodeProtocol},
		"PING inside of a block":        {func(s *sender) { s.open(block); _ = s.fr.WritePing(true, [8]byte{}) }, http2.ErrCodeProtocol},
		"another block inside":          {func(s *sender) { s.open(block); s.raw(3, true, maxFrame, 0, false, block) }, http2.ErrCodeProtocol},
		"another stream's CONTINUATION": {func(s *sender) { s.open(block); _ = s.fr.WriteContinuation(3, true, block) }, http2.ErrCodeProtocol},
		"padding without end": {func(s *sender) {
			_ = s.fr.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders, 1, []byte{9, 0x88})
		}, http2.ErrCodeProtocol},
		"padding without a length": {func(s *sender) {
			_ = s.fr.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders, 1, nil)
		}, http2.ErrCodeProtocol},
		"a cut priority": {func(s *sender) {
			_ = s.fr.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPriority|http2.FlagHeadersEndHeaders, 1, []byte{1, 2})
		}, http2.ErrCodeProtocol},
		"a frame that is too long": {func(s *sender) {
			_ = s.fr.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, make([]byte, maxFrame+1))
		}, http2.ErrCodeFrameSize},
		"an index that is not there": {func(s *sender) { s.raw(1, true, maxFrame, 0, false, []byte{0xfe}) }, http2.ErrCodeCompression},
		"a cut block":                {func(s *sender) { s.raw(1, true, maxFrame, 0, false, []byte{0x40, 5, 'a'}) }, http2.ErrCodeCompression},
		"a cut long block": {func(s *sender) {
			s.raw(1, true, maxFrame, 0, false, append([]byte{0, 1, 'a', 0x7f, 0xff, 0xff, 0xff, 1}, make([]byte, 200_000)...))
		}, http2.ErrCodeCompression},
		"an integer without end": {func(s *sender) {
			s.raw(1, true, maxFrame, 0, false, append(make([]byte, 3*100_000), append([]byte{0x7f}, bytes.Repeat([]byte{0xff}, 30_000)...)...))
		}, http2.ErrCodeCompression},
		"a table that is too large": {func(s *sender) { s.raw(1, true, maxFrame, 0, false, []byte{0x3f, 0xff, 0xff, 0x03, 0x88}) }, http2.ErrCodeCompression},
		"a block without end":       {func(s *sender) { s.raw(1, true, maxFrame, 0, false, make([]byte, 3*1_000_000)) }, http2.ErrCodeEnhanceYourCalm},
		"empty frames without end": {func(s *sender) {
			s.open(block)
			for range 10_000 {
				_ = s.fr.WriteContinuation(1, false, nil)
			}
		}, http2.ErrCodeEnhanceYourCalm},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newSender()
			_ = s.fr.WriteData(1, false, []byte("before"))
			c.write(s)
			_ = s.fr.WriteData(1, false, []byte("behind"))
			pass := judgeFunc(func(b *Block) Verdict {
				if b.TooLong {
					return Drop
				}
				return Pass
			})
			rnd := rand.New(rand.NewPCG(5, 5))
			b := NewBlocks(&chunked{rnd: rnd, data: s.wire.Bytes(), max: 5000}, BlocksConfig{Judge: pass, MaxList: 64 << 10, MaxBytes: 1 << 20})
			out, err := io.ReadAll(b)
			var blockErr *BlockError
			require.ErrorAs(t, err, &blockErr)
			require.Equal(t, c.code, blockErr.Code, blockErr.Reason)
			require.Contains(t, string(out), "before")
			require.NotContains(t, string(out), "behind")
			_, err = b.Read(make([]byte, 1))
			require.ErrorAs(t, err, &blockErr, "it stays so")
		})
	}
}

// open begins a block that does not end.
func (s *sender) open(block []byte) {
	_ = s.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block})
}

// FuzzBlocks feeds bytes of a peer: whatever they are, nothing panics, and the transport can read what comes out as far as
// it could without the Blocks.
func FuzzBlocks(f *testing.F) {
	s := newSender()
	s.headers(1, false, 7, 3, true, randomFields(rand.New(rand.NewPCG(1, 2)))...)
	_ = s.fr.WriteData(1, true, []byte("data"))
	f.Add(bytes.Clone(s.wire.Bytes()), uint64(1))
	f.Fuzz(func(t *testing.T, wire []byte, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		judge := judgeFunc(func(b *Block) Verdict {
			if b.TooLong {
				return Drop
			}
			if v := Verdict(rnd.IntN(5)); v != Rewrite || !b.Again {
				return v
			}
			return Pass
		})
		b := NewBlocks(&chunked{rnd: rnd, data: bytes.Clone(wire), max: 50}, BlocksConfig{Judge: judge, MaxList: 200, MaxBytes: 100_000})
		out, err := io.ReadAll(b)
		if err != nil {
			return
		}
		dec := hpack.NewDecoder(tableSize, nil)
		fr := http2.NewFramer(io.Discard, bytes.NewReader(out))
		fr.ReadMetaHeaders = dec
		for {
			_, err := fr.ReadFrame()
			if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
				return
			}
			var conn http2.ConnectionError
			if errors.As(err, &conn) && conn == http2.ConnectionError(http2.ErrCodeCompression) {
				t.Fatalf("the transport cannot decode what came out: %v", err)
			}
			var stream http2.StreamError
			if err != nil && !errors.As(err, &stream) {
				return
			}
		}
	})
}

// FuzzSkipper compares what a skipper does to a table with what the block itself does.
func FuzzSkipper(f *testing.F) {
	f.Add([]byte{0x40, 1, 'a', 1, 'b', 0xbe, 0x20}, uint64(1))
	f.Fuzz(func(t *testing.T, block []byte, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		var want, got []hpack.HeaderField
		all := hpack.NewDecoder(tableSize, func(f hpack.HeaderField) { want = append(want, f) })
		_, wantErr := all.Write(block)
		if err := all.Close(); wantErr == nil {
			wantErr = err
		}
		s := skipper{dec: hpack.NewDecoder(tableSize, func(f hpack.HeaderField) { got = append(got, f) })}
		var gotErr error
		for p := block; len(p) > 0 && gotErr == nil; {
			n := 1 + rnd.IntN(len(p))
			gotErr = s.write(p[:n])
			p = p[n:]
		}
		if gotErr == nil && !s.atBoundary() {
			gotErr = errSkipLength
		}
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("%x: got %v, want %v", block, gotErr, wantErr)
		}
		if wantErr == nil && len(block) < reprHeld && fieldsText(got) != fieldsText(want) {
			t.Fatalf("%x: got %s, want %s", block, fieldsText(got), fieldsText(want))
		}
	})
}

func BenchmarkBlocks_Answer(b *testing.B) { benchmarkBlocks(b, answers{&Conn{}}) }

// benchmarkBlocks measures what an answer of headers, a message and trailers costs, of which the peer has sent the same
// before.
func benchmarkBlocks(b *testing.B, judge Judge) {
	s := newSender()
	answer := func() {
		s.headers(1, false, maxFrame, 0, false, hpack.HeaderField{Name: ":status", Value: "200"}, hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
		_ = s.fr.WriteData(1, false, make([]byte, 105))
		s.headers(1, true, maxFrame, 0, false, hpack.HeaderField{Name: "grpc-status", Value: "0"}, hpack.HeaderField{Name: "grpc-message", Value: ""})
	}
	answer()
	blocks := NewBlocks(bytes.NewReader(bytes.Clone(s.wire.Bytes())), BlocksConfig{Judge: judge, MaxList: 64 << 10, MaxBytes: 1 << 20})
	_, _ = io.ReadAll(blocks)
	s.wire.Reset()
	answer()
	again := &repeated{data: bytes.Clone(s.wire.Bytes())}
	blocks.src, blocks.err = again, nil
	p := make([]byte, len(again.data))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = io.ReadFull(blocks, p)
	}
}

// repeated gives the same bytes with each Read.
type repeated struct{ data []byte }

func (r *repeated) Read(p []byte) (int, error) { return copy(p, r.data), nil }
