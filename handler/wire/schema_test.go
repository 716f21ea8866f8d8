package wire

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/cloudwego/prutal"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// newSchema is the schema of the peers. The Go types below are of an older one, without what is marked new.
const newSchema = `
syntax = "proto3";
package test;
enum Color { NONE = 0; RED = 1; BLUE = 2; }
message Leaf {
  string name = 1;
  int64 n = 2;
  map<string, int32> tags = 3;
  string extra = 20;            // new
  repeated int32 extras = 21;   // new
}
message All {
  string s = 1;
  bytes b = 2;
  int32 i = 3;
  sint32 z = 4;
  fixed64 f = 5;
  double d = 6;
  bool ok = 7;
  Color color = 8;
  optional int32 opt = 9;
  optional string opts = 10;
  repeated int32 ints = 11;
  repeated sint64 unpacked = 12 [packed = false];
  repeated string words = 13;
  repeated double doubles = 14;
  Leaf leaf = 15;
  repeated Leaf leaves = 16;
  map<string, string> labels = 17;
  map<int32, Leaf> by_id = 18;
  map<bool, bytes> flags = 19;
  map<sint64, double> rates = 20;
  oneof choice {
    string text = 21;
    int64 num = 22;
    Leaf pick = 23;
    string other = 24;          // new
  }
  All child = 30;
  repeated All children = 31;
  string x1 = 100;              // new, as are all that follow
  Leaf x2 = 101;
  repeated fixed32 x3 = 102;
  map<string, Leaf> x4 = 103;
  All x5 = 5000;
}
`

type Color int32

type Leaf struct {
	Name string           `protobuf:"bytes,1,opt,name=name" json:"name,omitempty"`
	N    int64            `protobuf:"varint,2,opt,name=n" json:"n,omitempty"`
	Tags map[string]int32 `protobuf:"bytes,3,rep,name=tags" json:"tags,omitempty" protobuf_key:"bytes,1,opt,name=key" protobuf_val:"varint,2,opt,name=value"`
}

type All struct {
	S        string            `protobuf:"bytes,1,opt,name=s"`
	B        []byte            `protobuf:"bytes,2,opt,name=b"`
	I        int32             `protobuf:"varint,3,opt,name=i"`
	Z        int32             `protobuf:"zigzag32,4,opt,name=z"`
	F        uint64            `protobuf:"fixed64,5,opt,name=f"`
	D        float64           `protobuf:"fixed64,6,opt,name=d"`
	Ok       bool              `protobuf:"varint,7,opt,name=ok"`
	Color    Color             `protobuf:"varint,8,opt,name=color"`
	Opt      *int32            `protobuf:"varint,9,opt,name=opt"`
	Opts     *string           `protobuf:"bytes,10,opt,name=opts"`
	Ints     []int32           `protobuf:"varint,11,rep,packed,name=ints"`
	Unpacked []int64           `protobuf:"zigzag64,12,rep,name=unpacked"`
	Words    []string          `protobuf:"bytes,13,rep,name=words"`
	Doubles  []float64         `protobuf:"fixed64,14,rep,packed,name=doubles"`
	Leaf     *Leaf             `protobuf:"bytes,15,opt,name=leaf"`
	Leaves   []*Leaf           `protobuf:"bytes,16,rep,name=leaves"`
	Labels   map[string]string `protobuf:"bytes,17,rep,name=labels" protobuf_key:"bytes,1,opt,name=key" protobuf_val:"bytes,2,opt,name=value"`
	ByID     map[int32]*Leaf   `protobuf:"bytes,18,rep,name=by_id" protobuf_key:"varint,1,opt,name=key" protobuf_val:"bytes,2,opt,name=value"`
	Flags    map[bool][]byte   `protobuf:"bytes,19,rep,name=flags" protobuf_key:"varint,1,opt,name=key" protobuf_val:"bytes,2,opt,name=value"`
	Rates    map[int64]float64 `protobuf:"bytes,20,rep,name=rates" protobuf_key:"zigzag64,1,opt,name=key" protobuf_val:"fixed64,2,opt,name=value"`
	Choice   isAllChoice       `protobuf_oneof:"choice"`
	Child    *All              `protobuf:"bytes,30,opt,name=child"`
	Children []*All            `protobuf:"bytes,31,rep,name=children"`
}

type isAllChoice interface{ isAllChoice() }

type AllText struct {
	Text string `protobuf:"bytes,21,opt,name=text"`
}

type AllNum struct {
	Num int64 `protobuf:"varint,22,opt,name=num"`
}

type AllPick struct {
	Pick *Leaf `protobuf:"bytes,23,opt,name=pick"`
}

func (*AllText) isAllChoice() {}
func (*AllNum) isAllChoice()  {}
func (*AllPick) isAllChoice() {}

func (*All) XXX_OneofWrappers() []interface{} {
	return []interface{}{(*AllText)(nil), (*AllNum)(nil), (*AllPick)(nil)}
}

// newAll is the new schema's type All.
func newAll(t testing.TB) protoreflect.MessageType {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"test.proto": newSchema}),
	}}
	files, err := compiler.Compile(context.Background(), "test.proto")
	require.NoError(t, err)
	return dynamicpb.NewMessageType(files[0].Messages().ByName("All"))
}

// filler fills messages of the new schema at random.
type filler struct {
	*rand.Rand
	names int
}

func (r *filler) fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if r.IntN(3) == 0 || f.ContainingOneof() != nil && m.WhichOneof(f.ContainingOneof()) != nil {
			continue
		}
		if f.Message() != nil && !f.IsMap() && depth == 0 {
			continue
		}
		switch {
		case f.IsMap():
			for range r.IntN(4) {
				if f.MapValue().Message() != nil && depth == 0 {
					continue
				}
				m.Mutable(f).Map().Set(r.scalar(f.MapKey()).MapKey(), r.value(f.MapValue(), depth, m.Mutable(f).Map().NewValue))
			}
		case f.IsList():
			for range r.IntN(4) {
				m.Mutable(f).List().Append(r.value(f, depth, m.Mutable(f).List().NewElement))
			}
		default:
			m.Set(f, r.value(f, depth, func() protoreflect.Value { return m.NewField(f) }))
		}
	}
	// A name of its own, by which the test finds elements.
	if f := fields.ByNumber(1); f.Kind() == protoreflect.StringKind {
		r.names++
		m.Set(f, protoreflect.ValueOfString(fmt.Sprint("name ", r.names)))
	}
}

func (r *filler) value(f protoreflect.FieldDescriptor, depth int, zero func() protoreflect.Value) protoreflect.Value {
	if f.Message() == nil {
		return r.scalar(f)
	}
	v := zero()
	r.fill(v.Message(), depth-1)
	return v
}

// scalar is never zero: prutal does not write members of a oneof that are.
func (r *filler) scalar(f protoreflect.FieldDescriptor) protoreflect.Value {
	n := 1 + r.Uint64()>>(1+r.IntN(62))
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprint("text ", n%100))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{byte(n), 2, 3})
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n%2 == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(1 + n%2))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n) / 3)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind:
		return protoreflect.ValueOfInt32(-int32(1 + n%1e9))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind:
		return protoreflect.ValueOfInt64(-int64(n))
	case protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(1 + n%1e9))
	default:
		return protoreflect.ValueOfUint64(n)
	}
}

func encodeOld(t testing.TB, v any) []byte {
	t.Helper()
	b, err := prutal.Marshal(v)
	require.NoError(t, err)
	return b
}

// merged is what comes of original when change is applied to what the old type T decodes from it.
func merged[T any](t testing.TB, original []byte, change func(*T)) []byte {
	t.Helper()
	out, err := tryMerge(t, original, change)
	require.NoError(t, err)
	return out
}

func tryMerge[T any](t testing.TB, original []byte, change func(*T)) ([]byte, error) {
	t.Helper()
	v := new(T)
	require.NoError(t, prutal.Unmarshal(original, v))
	before := encodeOld(t, v)
	change(v)
	m := describeT[T](t)
	return m.Merge(original, before, encodeOld(t, v))
}

func requireEqualMessages(t testing.TB, want, got proto.Message) {
	t.Helper()
	require.True(t, proto.Equal(want, got), "want %v\ngot  %v", want, got)
}
