package wire

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

func describeT[T any](t testing.TB) *Message {
	t.Helper()
	m, err := Describe(reflect.TypeFor[T]())
	require.NoError(t, err)
	return m
}

// node is a message of the new schema with setters by name.
type node struct{ protoreflect.Message }

func (n node) of(name string) protoreflect.FieldDescriptor {
	return n.Descriptor().Fields().ByName(protoreflect.Name(name))
}

func (n node) set(name string, v any)     { n.Set(n.of(name), protoreflect.ValueOf(v)) }
func (n node) clear(name string)          { n.Clear(n.of(name)) }
func (n node) message(name string) node   { return node{n.Mutable(n.of(name)).Message()} }
func (n node) at(name string, i int) node { return node{n.Mutable(n.of(name)).List().Get(i).Message()} }

// keep makes the list hold the elements that it has at the places, in that order.
func (n node) keep(name string, places []int) {
	old := n.Get(n.of(name)).List()
	list := n.NewField(n.of(name))
	for _, i := range places {
		list.List().Append(old.Get(i))
	}
	n.Set(n.of(name), list)
}

func keep[T any](s []T, places []int) (kept []T) {
	for _, i := range places {
		kept = append(kept, s[i])
	}
	return kept
}

// changes are what filters do, to a message of the old Go type and, for comparison, to one of the new schema.
var changes = []struct {
	name string
	do   func(r *rand.Rand, old *All, new node)
}{
	{"nothing", func(*rand.Rand, *All, node) {}},
	{"scalars set", func(_ *rand.Rand, old *All, new node) {
		old.S, old.B, old.I, old.Z, old.F, old.D, old.Ok, old.Color = "new", []byte("new"), -7, -8, 9, 1.5, true, 2
		new.set("s", "new")
		new.set("b", []byte("new"))
		new.set("i", int32(-7))
		new.set("z", int32(-8))
		new.set("f", uint64(9))
		new.set("d", 1.5)
		new.set("ok", true)
		new.set("color", protoreflect.EnumNumber(2))
	}},
	{"scalars cleared", func(_ *rand.Rand, old *All, new node) {
		old.B, old.I, old.D, old.Opt, old.Ints, old.Labels = nil, 0, 0, nil, nil, nil
		for _, name := range []string{"b", "i", "d", "opt", "ints", "labels"} {
			new.clear(name)
		}
	}},
	{"presence of a zero", func(_ *rand.Rand, old *All, new node) {
		old.Opt, old.Opts = pointer(int32(0)), pointer("")
		new.set("opt", int32(0))
		new.set("opts", "")
	}},
	{"lists of scalars", func(_ *rand.Rand, old *All, nw node) {
		old.Ints, old.Unpacked = append(old.Ints, 5, -6), append(old.Unpacked, -7)
		nw.Mutable(nw.of("ints")).List().Append(protoreflect.ValueOfInt32(5))
		nw.Mutable(nw.of("ints")).List().Append(protoreflect.ValueOfInt32(-6))
		nw.Mutable(nw.of("unpacked")).List().Append(protoreflect.ValueOfInt64(-7))
		old.Words, old.Doubles = []string{"a", ""}, nil
		nw.clear("words")
		nw.Mutable(nw.of("words")).List().Append(protoreflect.ValueOfString("a"))
		nw.Mutable(nw.of("words")).List().Append(protoreflect.ValueOfString(""))
		nw.clear("doubles")
	}},
	{"message changed", func(_ *rand.Rand, old *All, nw node) {
		if old.Leaf == nil {
			old.Leaf = new(Leaf)
		}
		old.Leaf.N = 77
		nw.message("leaf").set("n", int64(77))
	}},
	{"message removed", func(_ *rand.Rand, old *All, nw node) {
		old.Leaf, old.Child = nil, nil
		nw.clear("leaf")
		nw.clear("child")
	}},
	{"an element changed", func(r *rand.Rand, old *All, nw node) {
		if n := len(old.Leaves); n > 0 {
			i := r.IntN(n)
			old.Leaves[i].Name, old.Leaves[i].Tags = "changed", map[string]int32{"a": 1}
			leaf := nw.at("leaves", i)
			leaf.set("name", "changed")
			leaf.clear("tags")
			leaf.Mutable(leaf.of("tags")).Map().Set(protoreflect.ValueOf("a").MapKey(), protoreflect.ValueOfInt32(1))
		}
	}},
	{"elements removed", func(r *rand.Rand, old *All, nw node) {
		for name, n := range map[string]int{"leaves": len(old.Leaves), "children": len(old.Children)} {
			var places []int
			for i := range n {
				if r.IntN(2) == 0 {
					places = append(places, i)
				}
			}
			nw.keep(name, places)
			if name == "leaves" {
				old.Leaves = keep(old.Leaves, places)
			} else {
				old.Children = keep(old.Children, places)
			}
		}
	}},
	{"elements in another order", func(r *rand.Rand, old *All, nw node) {
		places := r.Perm(len(old.Leaves))
		old.Leaves = keep(old.Leaves, places)
		nw.keep("leaves", places)
		places = r.Perm(len(old.Children))
		old.Children = keep(old.Children, places)
		nw.keep("children", places)
	}},
	{"an element added", func(r *rand.Rand, old *All, nw node) {
		i := r.IntN(len(old.Leaves) + 1)
		old.Leaves = slices.Insert(old.Leaves, i, &Leaf{Name: "added"})
		added := nw.Mutable(nw.of("leaves")).List().AppendMutable().Message()
		node{added}.set("name", "added")
		places := make([]int, 0, len(old.Leaves))
		for j := range len(old.Leaves) - 1 {
			places = append(places, j)
		}
		nw.keep("leaves", slices.Insert(places, i, len(old.Leaves)-1))
	}},
	{"maps", func(_ *rand.Rand, old *All, nw node) {
		byID := nw.Mutable(nw.of("by_id")).Map()
		first := true
		for id, leaf := range old.ByID {
			if first {
				delete(old.ByID, id)
				byID.Clear(protoreflect.ValueOf(id).MapKey())
			} else {
				leaf.N = 5
				node{byID.Mutable(protoreflect.ValueOf(id).MapKey()).Message()}.set("n", int64(5))
			}
			first = false
		}
		if old.ByID == nil {
			old.ByID = make(map[int32]*Leaf)
		}
		old.ByID[4] = &Leaf{Name: "four"}
		node{byID.Mutable(protoreflect.ValueOf(int32(4)).MapKey()).Message()}.set("name", "four")
		if len(old.Labels) > 0 {
			old.Labels["added"] = "yes"
			nw.Mutable(nw.of("labels")).Map().Set(protoreflect.ValueOf("added").MapKey(), protoreflect.ValueOf("yes"))
		}
		if old.Rates != nil {
			old.Rates[-3] = 0.25
			nw.Mutable(nw.of("rates")).Map().Set(protoreflect.ValueOf(int64(-3)).MapKey(), protoreflect.ValueOf(0.25))
		}
		old.Flags = map[bool][]byte{true: []byte("t")}
		nw.clear("flags")
		nw.Mutable(nw.of("flags")).Map().Set(protoreflect.ValueOf(true).MapKey(), protoreflect.ValueOf([]byte("t")))
	}},
	{"oneof set to text", func(_ *rand.Rand, old *All, nw node) {
		old.Choice = &AllText{"chosen"}
		nw.set("text", "chosen")
	}},
	{"oneof set to a message", func(_ *rand.Rand, old *All, nw node) {
		if p, ok := old.Choice.(*AllPick); ok {
			p.Pick.N = 9
		} else {
			old.Choice = &AllPick{&Leaf{N: 9}}
		}
		nw.message("pick").set("n", int64(9))
	}},
	{"oneof cleared", func(_ *rand.Rand, old *All, nw node) {
		if old.Choice != nil { // else it may hold a member that the old type does not know
			old.Choice = nil
			nw.Clear(nw.WhichOneof(nw.Descriptor().Oneofs().ByName("choice")))
		}
	}},
}

func pointer[T any](v T) *T { return &v }

// A filter that knows the old schema changes what it knows; the peers, who know the new one, see that change and no
// other.
func TestMerge_ChangesWhatChangedAndNothingElse(t *testing.T) {
	newType := newAll(t)
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 9))
		sent := newType.New().Interface()
		(&filler{Rand: r}).fill(sent.ProtoReflect(), 2)
		original, err := proto.Marshal(sent)
		require.NoError(t, err)
		for _, c := range changes {
			for _, where := range []string{"top", "child", "each of children"} {
				t.Run(fmt.Sprint(seed, " ", c.name, " ", where), func(t *testing.T) {
					want := proto.Clone(sent)
					out := merged(t, original, func(old *All) {
						top := node{want.ProtoReflect()}
						seed := r.Uint64()
						if where == "top" {
							c.do(rand.New(rand.NewPCG(seed, 1)), old, top)
						} else if where == "child" && old.Child != nil {
							c.do(rand.New(rand.NewPCG(seed, 1)), old.Child, top.message("child"))
						} else if where == "each of children" {
							for i, child := range old.Children {
								c.do(rand.New(rand.NewPCG(seed, 1)), child, top.at("children", i))
							}
						}
					})
					got := dynamicpb.NewMessage(newType.Descriptor())
					require.NoError(t, proto.Unmarshal(out, got))
					requireEqualMessages(t, want, got)
				})
			}
		}
	}
}
