package h2conn

import (
	"bytes"
	"encoding/binary"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// BlockFrameCost is added to the length of a header block for each of its frames, so that the number of empty frames is
// bounded, too.
const BlockFrameCost = 128

const (
	// tableSize is the size of the HPACK dynamic table that a Kitex transport allows its peer, which is HTTP/2's default.
	tableSize = 4096

	// maxFrame is the largest frame payload that a Kitex transport accepts.
	maxFrame = 16384

	// holdSlack is how many bytes over MaxList the encoding of a block may have to be held. An encoding is normally shorter
	// than the list of its fields.
	holdSlack = 16 << 10

	// roomKept is the largest buffer, in bytes, that is kept for the next blocks.
	roomKept = 128 << 10

	// fieldsKept is the largest slice of fields that is kept for the next block.
	fieldsKept = 256
)

// BlocksConfig configures a Blocks.
type BlocksConfig struct {
	Judge    Judge
	MaxList  uint32 // bound of the fields of a block, counted as in RFC 9113 §6.5.2; see Block.TooLong
	MaxBytes int    // bound of a block on the wire, with BlockFrameCost for each frame; a longer one ends the connection
	Skip     int    // bytes before the first frame, such as the client preface
}

// Blocks is an io.Reader between a socket and a transport that cannot handle every header block. It decodes each block
// before the transport reads it, and asks a judge for the verdict. While all verdicts are Pass, the transport reads exactly
// the bytes that the peer has sent, and only blocks that come in parts are copied.
//
// After the first other verdict, the HPACK table of the transport differs from the peer's. So Blocks empties the transport's
// table with a table size update (RFC 7541 §6.3), and from then on encodes every block again, without indexing.
//
// It is owned by the goroutine that reads.
type Blocks struct {
	src io.Reader
	cfg BlocksConfig

	out  []byte // bytes that Read returns next
	room []byte // the buffer of out
	err  error  // that Read returns after out

	// Of the bytes from src:
	pass   int    // bytes that follow and go on as they are
	frame  []byte // the bytes so far of a frame that comes in parts, if it may be part of a block
	inside bool   // a CONTINUATION must come next
	wire   int    // length of the block so far, as MaxBytes counts it
	held   []byte // the fragments of the block so far
	long   bool   // the block is too long to be held: its fragments go to skipper

	block   Block
	listed  uint64 // size of the fields of the block so far
	dec     *hpack.Decoder
	skipper skipper
	repeats repeats

	recoder *hpack.Encoder // encodes blocks for the transport; nil while the transport's table is the peer's
	recoded bytes.Buffer   // the output of recoder
}

// NewBlocks returns a Blocks that reads from src.
func NewBlocks(src io.Reader, cfg BlocksConfig) *Blocks {
	b := &Blocks{src: src, cfg: cfg, pass: cfg.Skip}
	b.dec = hpack.NewDecoder(tableSize, b.field)
	b.skipper.dec = b.dec
	return b
}

// Read implements io.Reader. An error is that of src, or a *BlockError.
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

// follow processes p, the next bytes from src. It returns how many bytes at the beginning of p go on as they are. It adds to
// room what is to go on behind these.
func (b *Blocks) follow(p []byte) (kept int) {
	for i := 0; i < len(p); {
		n, same := b.step(p[i:])
		if n == 0 { // step has failed
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

// fail sets the error that Read returns behind the bytes so far.
func (b *Blocks) fail(code http2.ErrCode, reason string) { b.err = &BlockError{code, reason} }

// step processes the first n bytes of p, and reports whether they go on as they are. If not, it has added to room what
// replaces them, if anything does. n is 0 if it has failed.
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

// stepInFrame is step for a frame that comes in parts. It adds to room what is to go on.
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

// begin checks the header of a frame. It fails, and reports false, if the frame must not come next or is too long.
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

// whole processes a whole frame of a block. same reports whether the frame goes on as it is; ok is false if it has failed.
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

// skip passes a fragment to the skipper, and reports false if it has failed.
func (b *Blocks) skip(fragment []byte) bool {
	if err := b.skipper.write(fragment); err != nil {
		b.fail(http2.ErrCodeCompression, err.Error())
		return false
	}
	return true
}

// field is called by the decoder with each field of the block.
func (b *Blocks) field(f hpack.HeaderField) {
	if b.listed += uint64(f.Size()); b.listed > uint64(b.cfg.MaxList) {
		b.tooLong()
		return
	}
	b.block.Fields = append(b.block.Fields, f)
}

// tooLong marks the block as too long: its further fields are dropped.
func (b *Blocks) tooLong() {
	b.block.TooLong = true
	b.dec.SetEmitEnabled(false)
}

// judged decodes a block that is complete, unless the skipper has done that, and does what the judge's verdict says.
// oneFrame says that the block came in one frame. same reports whether that frame goes on as it is; ok is false if it has
// failed.
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
		verdict = Rewrite // the transport refuses a string that is over MaxList when encoded, even if it is shorter when decoded
	}
	if verdict != Pass {
		b.leaveTable()
	}
	switch {
	case b.block.Again || b.recoder != nil: // with a recoder, repeats is not used any more
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

// decode decodes a block, or after the skipper its end only: then block is nil.
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

// forget clears what was kept for the block, and drops large buffers.
func (b *Blocks) forget() {
	clear(b.block.Fields)
	if cap(b.block.Fields) > fieldsKept {
		b.block.Fields = nil
	}
	if cap(b.held) > maxFrame {
		b.held = nil
	}
	if b.recoded.Cap() > roomKept {
		b.recoded = bytes.Buffer{} // the recoder has a pointer to the field, which stays valid
	}
}

// leaveTable makes the transport's table empty from the next block on.
func (b *Blocks) leaveTable() {
	if b.recoder == nil {
		b.recoder = hpack.NewEncoder(&b.recoded)
		b.recoder.SetMaxDynamicTableSize(0) // the next block begins with the table size update
	}
}

// write adds an encoded block to room, as HEADERS and CONTINUATION frames.
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
