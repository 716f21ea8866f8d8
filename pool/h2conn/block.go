package h2conn

import (
	"fmt"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Block is a header block: a HEADERS frame and the CONTINUATION frames behind it.
type Block struct {
	Stream    uint32
	EndStream bool
	Fields    []hpack.HeaderField // in their order; if TooLong, only the first ones
	TooLong   bool                // the fields are over BlocksConfig.MaxList, counted as in RFC 9113 §6.5.2

	// Again says that the verdict on an earlier block with the same fields and the same EndStream was Pass. This block was not
	// decoded: Fields is empty, and the verdict must not be Rewrite.
	Again bool
}

// Verdict says what to do with a header block.
type Verdict int

// The verdicts.
const (
	Pass    Verdict = iota // the transport gets it as it came; not for a block that is TooLong
	Rewrite                // the transport gets a block with the Fields and the EndStream that the judge has set
	Drop                   // the transport does not get it
	End                    // the transport gets an empty DATA frame with END_STREAM in its place
	Reset                  // the transport gets a RST_STREAM in its place
)

// Judge decides about header blocks.
type Judge interface {
	// Judge returns the verdict on a block. It may change the block, and must not keep it. It is called by the goroutine that
	// reads.
	Judge(b *Block) Verdict
}

// BlockError says that a header block of the peer cannot be read. The connection must be closed.
type BlockError struct {
	Code   http2.ErrCode // RFC 9113 §7
	Reason string
}

func (e *BlockError) Error() string { return fmt.Sprintf("h2conn: %s (%v)", e.Reason, e.Code) }
