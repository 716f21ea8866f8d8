package h2conn

import (
	"fmt"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Block is a header block: the fields of a HEADERS frame and of the CONTINUATION frames behind it.
type Block struct {
	Stream    uint32
	EndStream bool
	Fields    []hpack.HeaderField // in their order; of a list that is too long, those before it became so
	TooLong   bool                // the list is longer than it may be (RFC 9113 §6.5.2 says how it is counted)

	// Again says that a block with the same fields and the same EndStream has passed before. It was not decoded: Fields is
	// empty, and the judge must not say Rewrite.
	Again bool
}

// Verdict says what becomes of a header block.
type Verdict int

// The verdicts.
const (
	Pass    Verdict = iota // the transport gets it as it came; not for one that is too long
	Rewrite                // the transport gets the Fields and the EndStream that the judge has left in the block
	Drop                   // the transport does not get it
	End                    // the transport gets an empty DATA frame with END_STREAM in its place
	Reset                  // the transport gets a RST_STREAM in its place
)

// Judge decides about header blocks.
type Judge interface {
	// Judge may change the block, which is its own until it returns. It is called by the goroutine that reads.
	Judge(b *Block) Verdict
}

// BlockError says that a peer's header blocks cannot be read. The connection is of no use any more.
type BlockError struct {
	Code   http2.ErrCode // RFC 9113 §7
	Reason string
}

func (e *BlockError) Error() string { return fmt.Sprintf("h2conn: %s (%v)", e.Reason, e.Code) }
