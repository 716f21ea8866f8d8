package h2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// kindOf returns what a header block on a stream is; a nil stream is one that the peer opens.
func kindOf(s *Stream, server bool) headKind {
	switch {
	case s != nil && s.in == open:
		return trailerHead
	case !server:
		return answerHead
	}
	return requestHead
}

// decode returns what a header block says, and what makes the message malformed: tooLong if it is longer than maxList. After an error
// nothing more can be decoded.
func (in *inbound) decode(p []byte, kind headKind, end bool, maxList uint32) (h *Head, problem string, err error) {
	epoch := in.decoder.Epoch()
	if h := in.heads.find(p, kind, end, epoch); h != nil {
		return h, "", nil
	}
	fields, err := in.decoder.Decode(in.head.Fields[:0], p, maxList)
	in.head = Head{Fields: fields, End: end, ContentLength: -1}
	switch {
	case errors.Is(err, hpack.ErrListTooLarge):
		in.head.Fields = fields[:0]
		return &in.head, tooLong, nil
	case err != nil:
		return nil, "", err
	}
	if problem = in.head.check(kind); problem == "" && epoch == in.decoder.Epoch() {
		return in.heads.add(p, kind, epoch, &in.head), "", nil
	}
	return &in.head, problem, nil
}

// tooLong is the problem of a block that is longer than MaxHeaderList.
const tooLong = "too long"

// keptHeads are header blocks of late that came twice: a peer that makes the same call again and again sends the same bytes, which then
// need not be decoded and checked again.
type keptHeads struct {
	kept [manyHeads]*keptHead
	next int               // in kept, to be replaced
	once [manyHeads]uint64 // hashes of the last blocks that were not kept
	last int               // in once
}

const (
	manyHeads   = 8
	maxHeadLen  = 512 // bytes of a block that is kept
	maxHeadList = 64  // fields of a block that is kept
)

// keptHead is a block, and what it says as long as the HPACK table is of the same epoch.
type keptHead struct {
	block []byte
	hash  uint64
	epoch uint64
	head  Head
}

// hashOfHead returns the hash of a block as that of a message of that kind. A peer may choose blocks with the same hash: it then has
// fewer of its own kept.
func hashOfHead(p []byte, kind headKind, end bool) uint64 {
	const odd = 0x9e3779b97f4a7c15
	h := uint64(len(p))<<8 | uint64(kind)<<1
	if end {
		h |= 1
	}
	for ; len(p) >= 8; p = p[8:] {
		h = bits.RotateLeft64((h^binary.LittleEndian.Uint64(p))*odd, 29)
	}
	for _, b := range p {
		h = (h ^ uint64(b)) * odd
	}
	return h
}

// find returns what a block says, or nil if it is not kept.
func (l *keptHeads) find(p []byte, kind headKind, end bool, epoch uint64) *Head {
	if len(p) > maxHeadLen {
		return nil
	}
	hash := hashOfHead(p, kind, end)
	for _, k := range l.kept {
		if k != nil && k.hash == hash && k.epoch == epoch && bytes.Equal(k.block, p) {
			return &k.head
		}
	}
	return nil
}

// add keeps what a block says if it is one of the last that find did not find. It returns h, or the Head that stays.
func (l *keptHeads) add(p []byte, kind headKind, epoch uint64, h *Head) *Head {
	if len(p) > maxHeadLen || len(h.Fields) > maxHeadList {
		return h
	}
	hash := hashOfHead(p, kind, h.End)
	if !slices.Contains(l.once[:], hash) {
		l.last = (l.last + 1) % manyHeads
		l.once[l.last] = hash
		return h
	}
	k := &keptHead{block: bytes.Clone(p), hash: hash, epoch: epoch, head: *h}
	k.head.Fields, k.head.Stays = slices.Clone(h.Fields), true
	l.kept[l.next] = k
	l.next = (l.next + 1) % manyHeads
	return &k.head
}
