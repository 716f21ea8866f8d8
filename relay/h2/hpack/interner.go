package hpack

import (
	"hash/maphash"
	"math/bits"
)

// Interner shares Fields: who asks for the same name, value and sensitivity gets the same Field, for as long as it is kept.
// That is no promise: compare Name and Value, not pointers. One goroutine at a time.
//
// A field lives in one of the sets, by its hash. A set is an order of at most ways fields: a new one enters in the middle and
// moves towards the end as others enter; whoever is asked for again moves to the front. So values that never come again drive
// out only each other.
type Interner struct {
	sets          [][ways]*Field // a power of two of them, or none
	maxSets       int
	maxValueBytes int
	text          text
}

const (
	ways    = 8
	middle  = ways / 2
	minSets = 8
)

// seed keeps a peer from choosing fields that share a set.
var seed = maphash.MakeSeed()

// NewInterner makes an Interner that keeps at most maxFields fields (rounded down to 8 times a power of two; below 8 none), none
// of them with a name or a value longer than maxValueBytes. It takes memory as fields come.
func NewInterner(maxFields, maxValueBytes int) *Interner {
	in := &Interner{maxValueBytes: maxValueBytes}
	if maxFields >= ways {
		in.maxSets = 1 << (bits.Len(uint(maxFields/ways)) - 1)
	}
	return in
}

// Field returns the shared field, made if need be. A field that is not kept is made anew each time.
func (in *Interner) Field(name, value string, sensitive bool) *Field {
	in.text.reset()
	in.text.b = append(append(in.text.b, name...), value...)
	return in.field(in.text.b[:len(name)], in.text.b[len(name):], sensitive)
}

// field does not keep name and value.
func (in *Interner) field(name, value []byte, sensitive bool) *Field {
	if in.maxSets == 0 || len(name) > in.maxValueBytes || len(value) > in.maxValueBytes {
		return newField(name, value, sensitive)
	}
	if in.sets == nil {
		in.sets = make([][ways]*Field, min(minSets, in.maxSets))
	}
	hash := hashOf(name, value, sensitive)
	set := &in.sets[int(hash)&(len(in.sets)-1)]
	for i, f := range set {
		if f == nil {
			break
		}
		if f.hash == hash && f.Value == string(value) && f.Name == string(name) && f.Sensitive == sensitive {
			if i > 0 {
				copy(set[1:i+1], set[:i])
				set[0] = f
			}
			return f
		}
	}
	f := newField(name, value, sensitive)
	if set[ways-1] != nil && len(in.sets) < in.maxSets {
		in.grow()
		set = &in.sets[int(hash)&(len(in.sets)-1)]
	}
	enter(set, f)
	return f
}

// grow doubles the sets. Each keeps the order its fields had.
func (in *Interner) grow() {
	old := in.sets
	in.sets = make([][ways]*Field, 2*len(old))
	for i := range old {
		var n [2]int
		for _, f := range old[i] {
			if f == nil {
				break
			}
			at := i
			half := 0
			if int(f.hash)&len(old) != 0 {
				at, half = i+len(old), 1
			}
			in.sets[at][n[half]] = f
			n[half]++
		}
	}
}

// enter puts f in the middle, or before it as long as there is room.
func enter(set *[ways]*Field, f *Field) {
	at := 0
	for at < middle && set[at] != nil {
		at++
	}
	copy(set[at+1:], set[at:])
	set[at] = f
}

func hashOf(name, value []byte, sensitive bool) uint32 {
	h := maphash.Bytes(seed, name)*0x9e3779b97f4a7c15 + maphash.Bytes(seed, value)
	if sensitive {
		h = ^h
	}
	return uint32(h>>32) ^ uint32(h)
}
