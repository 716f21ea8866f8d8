package hpack

import "errors"

// ErrListTooLarge says that a block expands to more than the caller allowed. The Decoder is in step: refuse the request or
// response, keep the connection.
var ErrListTooLarge = errors.New("hpack: header list too large")

// Decoder decodes the header blocks of one connection, in the order in which they came. It holds no memory but its table's,
// and that only as far as the peer fills it.
type Decoder struct {
	in    *Interner
	table table
	limit uint32 // what the peer may set table.max to
	// lowest is the smallest limit since the last block, if the peer must come down to it with its next one; else noUpdate.
	lowest uint32
	epoch  uint64
}

// Epoch returns a number that changes whenever the bytes of a block may mean something else than before.
func (d *Decoder) Epoch() uint64 { return d.epoch }

// noUpdate is beyond what a table size can be: SETTINGS_HEADER_TABLE_SIZE of that value limits nothing.
const noUpdate = 1<<32 - 1

// defaultTableBytes is what SETTINGS_HEADER_TABLE_SIZE is until it is announced (RFC 9113 section 6.5.2).
const defaultTableBytes = 4096

// NewDecoder makes the Decoder of a connection. tableSize bounds the peer's table in bytes: 4096 until the peer has acknowledged
// another SETTINGS_HEADER_TABLE_SIZE, which is then told with SetTableSize. A larger one may be told here already.
func NewDecoder(in *Interner, tableSize uint32) *Decoder {
	return &Decoder{in: in, limit: tableSize, lowest: noUpdate, table: table{max: min(tableSize, defaultTableBytes)}}
}

// SetTableSize says that the peer has acknowledged n as SETTINGS_HEADER_TABLE_SIZE. If its table may be larger than that by now,
// its next block must begin with a table size update (RFC 7541 section 4.2).
func (d *Decoder) SetTableSize(n uint32) {
	d.limit = n
	d.epoch++
	if n < d.table.max {
		d.lowest = min(d.lowest, n)
	}
}

// Decode appends the fields of one complete header block to dst. It does not keep block.
//
// maxList bounds the header list by the count of RFC 9113 section 6.5.2. The first field beyond it and all after it are decoded,
// because the table must stay in step, but not appended, and the error is ErrListTooLarge. Any other error is a CompressionError,
// and the Decoder is of no use any more. With an error, what was appended before it is returned.
func (d *Decoder) Decode(dst []*Field, block []byte, maxList uint32) ([]*Field, error) {
	b, err := d.updates(block)
	if err != nil {
		return dst, err
	}
	left := int64(maxList)
	for len(b) > 0 {
		if c := b[0]; c >= indexed.bits {
			var f *Field
			if c == indexed.bits|0x7f {
				f, b, err = d.entry(b, indexed.prefix)
				if err != nil {
					return dst, err
				}
			} else {
				f, b = d.lookup(uint32(c&0x7f)), b[1:]
			}
			if f == nil {
				return dst, errIndex
			}
			if left -= int64(f.Size()); left >= 0 {
				dst = append(dst, f)
			}
			continue
		}
		l, rest, err := d.literal(b)
		if err != nil {
			return dst, err
		}
		b = rest
		size := fieldOverhead + int64(len(l.name)) + int64(len(l.value))
		var f *Field
		if left -= size; left >= 0 {
			f = d.in.field(l.name, l.value, l.sensitive)
			dst = append(dst, f)
		}
		if l.indexing {
			d.insert(l, f, size)
		}
	}
	if left < 0 {
		return dst, ErrListTooLarge
	}
	return dst, nil
}

// literal is a field that the block spells out. Name and value are valid until the Interner is asked again.
type literal struct {
	name, value         []byte
	indexing, sensitive bool
}

func (d *Decoder) literal(b []byte) (l literal, rest []byte, err error) {
	as := literalPlain
	switch c := b[0]; {
	case c >= literalIndexing.bits:
		as, l.indexing = literalIndexing, true
	case c >= sizeUpdate.bits:
		return l, nil, errUpdatePlace
	case c >= literalNever.bits:
		as, l.sensitive = literalNever, true
	}
	out := &d.in.text
	out.reset()
	if b[0] == as.bits {
		l.name, b, err = readString(b[1:], out)
	} else {
		var named *Field
		if named, b, err = d.entry(b, as.prefix); named != nil {
			out.b = append(out.b, named.Name...)
			l.name = out.b
		}
	}
	if err != nil {
		return l, nil, err
	}
	l.value, rest, err = readString(b, out)
	return l, rest, err
}

// entry reads an index and looks it up. Without an error there is a field.
func (d *Decoder) entry(b []byte, prefix uint8) (*Field, []byte, error) {
	i, rest, err := readInteger(b, prefix)
	if err != nil {
		return nil, nil, err
	}
	f := d.lookup(i)
	if f == nil {
		return nil, nil, errIndex
	}
	return f, rest, nil
}

// lookup returns nil if there is no entry of that index. Entry 0 of staticFields is nil.
func (d *Decoder) lookup(i uint32) *Field {
	if i < firstDynamic {
		return staticFields[i]
	}
	return d.table.at(i - firstDynamic)
}

// insert puts a field into the table, as RFC 7541 section 4.4 has it: one that is larger than the table empties it. f is nil if
// the field has not been made yet.
func (d *Decoder) insert(l literal, f *Field, size int64) {
	d.epoch++
	if size > int64(d.table.max) {
		d.shrink(0)
		return
	}
	if f == nil {
		f = d.in.field(l.name, l.value, false)
	}
	d.shrink(d.table.max - uint32(size))
	d.table.add(f)
}

// shrink evicts until at most size bytes are left.
func (d *Decoder) shrink(size uint32) {
	for d.table.size > size {
		d.table.drop()
	}
}

// updates reads the table size updates that b begins with, and returns what follows them. There may be two, for a size that went
// down and up again between two blocks (RFC 7541 section 4.2). An empty block, which has no place for one, may leave it out.
func (d *Decoder) updates(b []byte) ([]byte, error) {
	for n := 0; len(b) > 0; n++ {
		if b[0]&^0x1f != sizeUpdate.bits {
			if d.lowest != noUpdate {
				return nil, errUpdateMissing
			}
			return b, nil
		}
		if n == 2 {
			return nil, errUpdateCount
		}
		size, rest, err := readInteger(b, sizeUpdate.prefix)
		if err != nil {
			return nil, err
		}
		if size > d.limit || n == 0 && size > d.lowest {
			return nil, errUpdateTooLarge
		}
		if size != d.table.max {
			d.epoch++
		}
		d.lowest = noUpdate
		d.table.max = size
		d.shrink(size)
		if d.table.n == 0 {
			d.table.ring = nil
		}
		b = rest
	}
	return b, nil
}
