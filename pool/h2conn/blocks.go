package h2conn

import (
	"bytes"
	"encoding/binary"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// BlockFrameCost is what a frame of a header block counts for beside its bytes, so that empty ones have an end.
const BlockFrameCost = 128

const (
	// tableSize is the dynamic table that a Kitex transport allows its peer: it never announces another.
	tableSize = 4096

	// maxFrame is the largest payload that a Kitex transport takes.
	maxFrame = 16384

	// holdSlack is how much longer than its list may be a block is held: encoded, an honest one is hardly longer at all.
	holdSlack = 16 << 10

	// roomKept is how much room is kept for the next blocks.
	roomKept = 128 << 10

	// fieldsKept is how much room for fields is kept.
	fieldsKept = 256
)

// BlocksConfig says what a Blocks does.
type BlocksConfig struct {
	Judge    Judge
	MaxList  uint32 // a longer list of fields is too long
	MaxBytes int    // a block that is longer on the wire ends the connection; each of its frames counts for BlockFrameCost more
	Skip     int    // so many bytes come before the first frame
}

// Blocks stands between a socket and a transport that cannot take every header block. It decodes each before the
// transport sees it, and has a judge decide about it. While all of them pass, the transport reads what the peer has sent,
// byte by byte, and only blocks that a read has cut are copied.
//
// With the first block that the transport does not get, its HPACK table is no longer the peer's. It is emptied then, with
// a table size update (RFC 7541 §6.3), and stays empty: every further block is encoded anew without indexing.
//
// It belongs to the goroutine that reads.
type Blocks struct {
	src io.Reader
	cfg BlocksConfig

	out  []byte // to be read before anything else
	room []byte // out is a part of it
	err  error  // of the reads after out

	// Of the bytes from src:
	pass   int    // so many go on as they are
	frame  []byte // the beginning of a frame that may be part of a block
	inside bool   // a CONTINUATION must come next
	wire   int    // bytes of the block so far, as MaxBytes counts them
	held   []byte // its fragments so far
	long   bool   // it is too long to hold: its fragments go to skipper

	block   Block
	listed  uint64 // bytes of its fields so far
	dec     *hpack.Decoder
	skipper skipper
	repeats repeats

	recoder *hpack.Encoder // of what the transport gets; nil while that has the peer's table
	recoded bytes.Buffer
}

// NewBlocks returns a Blocks that reads from src.
func NewBlocks(src io.Reader, cfg BlocksConfig) *Blocks {
	b := &Blocks{src: src, cfg: cfg, pass: cfg.Skip}
	b.dec = hpack.NewDecoder(tableSize, b.field)
	b.skipper.dec = b.dec
	return b
}

// Read implements io.Reader. Of the errors that are not of src, all are of the type BlockError.
func (b *Blocks) Read(p []byte) (int, error) {
	for {
		if len(b.out) > 0 {
			n := copy(p, b.out)
			b.out = b.out[n:]
			return n, nil
		}
		if b.err != nil {
			return 0, b.err
		}
		if b.room = b.room[:0]; cap(b.room) > roomKept {
			b.room = nil
		}
		n, err := b.src.Read(p)
		b.err = err
		n = b.follow(p[:n])
		b.out = b.room
		if n > 0 {
			return n, nil
		}
	}
}

// follow takes the next bytes from src and returns how many of them, from the first, go on where they are. What comes
// behind these is added to room.
func (b *Blocks) follow(p []byte) (kept int) {
	for i := 0; i < len(p); {
		n, same := b.step(p[i:])
		if n == 0 { // it has failed
			break
		}
		switch {
		case same && kept == i:
			kept += n
		case same:
			b.room = append(b.room, p[i:i+n]...)
		}
		i += n
	}
	return kept
}

func (b *Blocks) fail(code http2.ErrCode, reason string) { b.err = &BlockError{code, reason} }

// step takes some of p and reports whether it goes on as it is; otherwise what takes its place was added to room. It
// takes nothing when it has failed.
func (b *Blocks) step(p []byte) (n int, same bool) {
	if b.pass > 0 {
		n = min(b.pass, len(p))
		b.pass -= n
		return n, true
	}
	if len(b.frame) > 0 || len(p) < frameHeaderLen {
		return b.stepInFrame(p), false
	}
	if !b.begin(p) {
		return 0, false
	}
	total := frameHeaderLen + payloadLen(p)
	if !ofBlock(p) {
		n = min(total, len(p))
		b.pass = total - n
		return n, true
	}
	if total > len(p) {
		return b.stepInFrame(p), false
	}
	same, ok := b.whole(p[:total])
	if !ok {
		return 0, false
	}
	return total, same
}

// stepInFrame is step for a frame that comes in parts.
func (b *Blocks) stepInFrame(p []byte) (n int) {
	if len(b.frame) < frameHeaderLen {
		n = min(frameHeaderLen-len(b.frame), len(p))
		b.frame = append(b.frame, p[:n]...)
		if len(b.frame) < frameHeaderLen {
			return n
		}
		if !b.begin(b.frame) {
			return 0
		}
		if !ofBlock(b.frame) {
			b.room = append(b.room, b.frame...)
			b.pass = payloadLen(b.frame)
			b.frame = b.frame[:0]
			return n
		}
	}
	missing := frameHeaderLen + payloadLen(b.frame) - len(b.frame)
	more := min(missing, len(p)-n)
	b.frame = append(b.frame, p[n:n+more]...)
	if more < missing {
		return n + more
	}
	f := b.frame
	b.frame = f[:0]
	same, ok := b.whole(f)
	if !ok {
		return 0
	}
	if same {
		b.room = append(b.room, f...)
	}
	return n + more
}

// begin checks the header of a frame, and reports whether the frame may come here.
func (b *Blocks) begin(h []byte) bool {
	typ := http2.FrameType(h[3])
	switch {
	case b.inside != (typ == http2.FrameContinuation):
		b.fail(http2.ErrCodeProtocol, "a header block without its end, or an end without its block")
	case ofBlock(h) && payloadLen(h) > maxFrame:
		b.fail(http2.ErrCodeFrameSize, "a frame of a header block is too long")
	default:
		return true
	}
	return false
}

// whole takes a whole frame of a block. It reports whether the frame goes on as it is, and false for ok if it has failed.
func (b *Blocks) whole(f []byte) (same, ok bool) {
	flags, stream := http2.Flags(f[4]), binary.BigEndian.Uint32(f[5:])&(1<<31-1)
	fragment, first := f[frameHeaderLen:], http2.FrameType(f[3]) == http2.FrameHeaders
	if first {
		if fragment, ok = unpadded(fragment, flags); !ok {
			b.fail(http2.ErrCodeProtocol, "a HEADERS frame with more padding than payload")
			return false, false
		}
		b.block.Stream, b.block.EndStream, b.block.TooLong, b.block.Again = stream, flags.Has(http2.FlagHeadersEndStream), false, false
		b.wire, b.held, b.long, b.listed = 0, b.held[:0], false, 0
		b.block.Fields = b.block.Fields[:0]
		b.dec.SetEmitEnabled(true)
	} else if stream != b.block.Stream {
		b.fail(http2.ErrCodeProtocol, "a CONTINUATION of another stream")
		return false, false
	}
	if b.wire += payloadLen(f) + BlockFrameCost; b.wire > b.cfg.MaxBytes {
		b.fail(http2.ErrCodeEnhanceYourCalm, "a header block has no end")
		return false, false
	}
	last := flags.Has(http2.FlagHeadersEndHeaders) // the same bit in CONTINUATION
	b.inside = !last
	if first && last {
		return b.judged(fragment, true)
	}
	if !b.long && len(b.held)+len(fragment) > int(min(uint64(b.cfg.MaxList), 1<<30))+holdSlack {
		b.long = true
		b.tooLong()
		b.skipper.reset()
		if !b.skip(b.held) {
			return false, false
		}
		b.held = nil
	}
	if b.long {
		if !b.skip(fragment) {
			return false, false
		}
	} else {
		b.held = append(b.held, fragment...)
	}
	if !last {
		return false, true
	}
	return b.judged(b.held, false)
}

func (b *Blocks) skip(fragment []byte) bool {
	if err := b.skipper.write(fragment); err != nil {
		b.fail(http2.ErrCodeCompression, err.Error())
		return false
	}
	return true
}

// field takes a field of the block from the decoder.
func (b *Blocks) field(f hpack.HeaderField) {
	if b.listed += uint64(f.Size()); b.listed > uint64(b.cfg.MaxList) {
		b.tooLong()
		return
	}
	b.block.Fields = append(b.block.Fields, f)
}

// tooLong takes no further fields.
func (b *Blocks) tooLong() {
	b.block.TooLong = true
	b.dec.SetEmitEnabled(false)
}

// judged decodes a block, unless it went to skipper, and does what the judge says. same means that it passes as it came,
// in one frame.
func (b *Blocks) judged(block []byte, oneFrame bool) (same, ok bool) {
	if b.long {
		block = nil
		if !b.skipper.atBoundary() {
			b.fail(http2.ErrCodeCompression, "a header block is cut")
			return false, false
		}
	}
	endStream := b.block.EndStream
	b.block.Again = oneFrame && b.recoder == nil && b.repeats.know(block, endStream)
	if !b.block.Again && !b.decode(block) {
		return false, false
	}
	verdict := b.cfg.Judge.Judge(&b.block)
	if verdict == Pass && (b.recoder != nil || uint64(len(block)) > uint64(b.cfg.MaxList)) {
		verdict = Rewrite // the transport does not take strings that are so long before they are decoded
	}
	if verdict != Pass {
		b.leaveTable()
	}
	switch {
	case b.block.Again || b.recoder != nil: // once there is a recoder, the repeats are not asked again
	case b.long || !keepsTable(block):
		b.repeats.forget()
	case oneFrame:
		b.repeats.learn(block, endStream)
	}
	switch verdict {
	case Pass:
		if same = oneFrame; !same {
			b.write(block)
		}
	case Rewrite:
		b.recoded.Reset()
		for _, f := range b.block.Fields {
			_ = b.recoder.WriteField(f) // a bytes.Buffer takes everything
		}
		b.write(b.recoded.Bytes())
	case End:
		b.room = AppendFrameHeader(b.room, FrameHeader{Type: http2.FrameData, Flags: http2.FlagDataEndStream, Stream: b.block.Stream})
	case Reset:
		b.room = AppendReset(b.room, b.block.Stream, http2.ErrCodeProtocol)
	}
	b.forget()
	return same, true
}

// decode decodes a block, of which skipper has had what is not in it.
func (b *Blocks) decode(block []byte) bool {
	_, err := b.dec.Write(block)
	if closed := b.dec.Close(); err == nil {
		err = closed
	}
	if err != nil {
		b.fail(http2.ErrCodeCompression, err.Error())
		return false
	}
	return true
}

// forget lets go of what the block has taken, so that one large block does not cost memory for ever.
func (b *Blocks) forget() {
	clear(b.block.Fields)
	if cap(b.block.Fields) > fieldsKept {
		b.block.Fields = nil
	}
	if cap(b.held) > maxFrame {
		b.held = nil
	}
	if b.recoded.Cap() > roomKept {
		b.recoded = bytes.Buffer{} // in place: the recoder writes to it
	}
}

// leaveTable makes the transport's table empty for good.
func (b *Blocks) leaveTable() {
	if b.recoder == nil {
		b.recoder = hpack.NewEncoder(&b.recoded)
		b.recoder.SetMaxDynamicTableSize(0) // and the next block says so
	}
}

// write adds the block to room as HEADERS and CONTINUATION frames.
func (b *Blocks) write(block []byte) {
	typ, flags := http2.FrameHeaders, http2.Flags(0)
	if b.block.EndStream {
		flags = http2.FlagHeadersEndStream
	}
	for {
		n := min(len(block), maxFrame)
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders
		}
		b.room = append(AppendFrameHeader(b.room, FrameHeader{n, typ, flags, b.block.Stream}), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return
		}
		typ, flags = http2.FrameContinuation, 0
	}
}
