package hpack

import "slices"

// recentBlocks are blocks that an Encoder has made of late, for lists of the very same Fields: most calls send the same. A block stays
// valid as long as nothing enters or leaves the table.
type recentBlocks struct {
	blocks [manyRecent]recentBlock
	next   int // in blocks, to be replaced
}

const (
	manyRecent   = 4
	maxRecent    = 32  // fields of a list
	maxRecentLen = 128 // bytes of a block
)

type recentBlock struct {
	fields []*Field
	bytes  []byte
	epoch  uint64 // Encoder.epoch when it was made
}

// find returns the block of a list, or nil.
func (r *recentBlocks) find(fields []*Field, epoch uint64) []byte {
	for i := range r.blocks {
		if b := &r.blocks[i]; b.epoch == epoch && slices.Equal(b.fields, fields) {
			return b.bytes
		}
	}
	return nil
}

// add keeps a block.
func (r *recentBlocks) add(fields []*Field, block []byte, epoch uint64) {
	b := &r.blocks[r.next]
	r.next = (r.next + 1) % manyRecent
	b.fields, b.bytes, b.epoch = append(b.fields[:0], fields...), append(b.bytes[:0], block...), epoch
}
