package schema

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

type (
	fileProto    = descriptorpb.FileDescriptorProto
	messageProto = descriptorpb.DescriptorProto
	fieldProto   = descriptorpb.FieldDescriptorProto
)

func setOf(files ...*fileProto) *descriptorpb.FileDescriptorSet {
	return &descriptorpb.FileDescriptorSet{File: files}
}

// define returns a file with messages without fields.
func define(path, pkg string, messages ...string) *fileProto {
	f := &fileProto{Name: &path, Package: &pkg}
	for _, m := range messages {
		f.MessageType = append(f.MessageType, &messageProto{Name: &m})
	}
	return f
}

func importing(f *fileProto, deps ...string) *fileProto {
	f.Dependency = deps
	return f
}

func TestParse_NamesTheFileAndWhatIsWrong(t *testing.T) {
	field := func(name, typ string) *fieldProto {
		return &fieldProto{Name: &name, Number: proto.Int32(1), TypeName: &typ,
			Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
	}
	lost := define("a.proto", "a", "A")
	lost.MessageType[0].Field = []*fieldProto{field("b", ".b.B")}
	extended := define("base.proto", "base", "B")
	extended.MessageType[0].ExtensionRange = []*descriptorpb.DescriptorProto_ExtensionRange{{Start: proto.Int32(1), End: proto.Int32(9)}}
	extending := func(path, name string) *fileProto {
		x := field(name, "")
		x.TypeName, x.Type, x.Extendee = nil, descriptorpb.FieldDescriptorProto_TYPE_INT32.Enum(), proto.String(".base.B")
		f := importing(define(path, name), "base.proto")
		f.Extension = []*fieldProto{x}
		return f
	}
	for name, c := range map[string]struct {
		set  *descriptorpb.FileDescriptorSet
		want []string
	}{
		"nothing":       {setOf(), []string{"no files, want a FileDescriptorSet"}},
		"no path":       {setOf(&fileProto{}), []string{`a file with the name ""`}},
		"bad path":      {setOf(define("a\nb", "")), []string{`a file with the name "a\nb"`}},
		"missing":       {setOf(importing(define("a.proto", ""), "x.proto", "google/protobuf/none.proto"), importing(define("b.proto", ""), "y.proto")), []string{`a.proto: imports "x.proto", which is not there`, `a.proto: imports "google/protobuf/none.proto"`, `b.proto: imports "y.proto"`}},
		"cycle":         {setOf(importing(define("a.proto", ""), "b.proto"), importing(define("b.proto", ""), "c.proto"), importing(define("c.proto", ""), "b.proto")), []string{"b.proto: imports itself: b.proto -> c.proto -> b.proto"}},
		"itself":        {setOf(importing(define("a.proto", ""), "a.proto")), []string{"a.proto -> a.proto"}},
		"two files":     {setOf(define("a.proto", "s", "M", "N"), define("b.proto", "s", "N", "M")), []string{"b.proto: defines s.N, as does a.proto", "b.proto: defines s.M, as does a.proto"}},
		"package":       {setOf(define("a.proto", "s", "M"), define("b.proto", "s.M.t")), []string{"a.proto: defines s.M, which is a package of b.proto"}},
		"twice in one":  {setOf(define("a.proto", "s", "M", "M")), []string{`a.proto: descriptor "s.M" already declared`}},
		"given twice":   {setOf(define("a.proto", "s", "M"), define("a.proto", "s", "N")), []string{"a.proto: there twice, with different content"}},
		"no type":       {setOf(lost, importing(define("c.proto", "c"), "a.proto"), define("d.proto", "d", "0")), []string{`a.proto: message field "a.A.b" cannot resolve type`, `d.proto: descriptor "d" has an invalid nested name`}},
		"not imported":  {setOf(lost, define("Z.proto", "b", "B")), []string{`a.proto: message field "a.A.b" cannot resolve type: resolved "b.B", but "Z.proto" is not imported`}},
		"one extension": {setOf(extended, extending("x.proto", "x"), extending("y.proto", "y")), []string{"y.proto: y.y extends base.B with number 1, as does x.x in x.proto"}},
		"many imports":  {setOf(importing(define("a.proto", ""), make([]string, maxFiles+1)...)), []string{"a.proto: 2049 imports, want at most 2048"}},
		"syntax":        {setOf(&fileProto{Name: proto.String("a.proto"), Syntax: proto.String("proto9")}), []string{`a.proto: invalid syntax: "proto9"`}},
	} {
		_, err := FromSet(c.set)
		require.Error(t, err, name)
		for _, want := range c.want {
			require.ErrorContains(t, err, want, name)
		}
		require.NotContains(t, err.Error(), "proto: proto:", name)
	}
	for _, doc := range []string{"syntax = \"proto3\";", "\x0a\x05ab", "\x0a\x02\x0a\x05", "\x08\x01", "{}"} {
		_, err := Parse([]byte(doc))
		require.Error(t, err, "%q", doc)
	}
	_, err := Parse(make([]byte, MaxBytes+1))
	require.ErrorContains(t, err, "want at most 1048576")
}

// hostile returns documents that are small and that a linker without bounds takes much time or memory for.
func hostile(t testing.TB) map[string][]byte {
	repeat := func(num protowire.Number, value []byte, times int) []byte {
		one := protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), value)
		return slices.Repeat(one, times)
	}
	name := func(s string) []byte { return repeat(1, []byte(s), 1) }
	inFile := func(content ...[]byte) []byte {
		return repeat(fieldFile, slices.Concat(append([][]byte{name("a.proto")}, content...)...), 1)
	}
	nested := name("M")
	for range 9000 {
		nested = slices.Concat(name("M"), repeat(3, nested, 1))
	}
	var ways []*fileProto
	for i := range 60 {
		for _, side := range []string{"a", "b"} {
			f := define(fmt.Sprintf("%s%d.proto", side, i), "")
			if i > 0 {
				importing(f, fmt.Sprintf("a%d.proto", i-1), fmt.Sprintf("b%d.proto", i-1)).PublicDependency = []int32{0, 1}
			}
			ways = append(ways, f)
		}
	}
	chain := setOf()
	for i := range maxFiles + 1 {
		chain.File = append(chain.File, importing(define(fmt.Sprintf("%d.proto", i), ""), fmt.Sprintf("%d.proto", i+1)))
	}
	var values []byte
	for i := range 60000 {
		values = append(values, repeat(2, append(name(fmt.Sprintf("V%d", i)), 0x10, byte(i&0x7f)), 1)...)
	}
	return map[string][]byte{
		"empty fields":      inFile(repeat(4, slices.Concat(name("M"), repeat(2, nil, 500_000)), 1)),
		"empty messages":    inFile(repeat(4, nil, 500_000)),
		"empty files":       repeat(fieldFile, nil, 500_000),
		"empty imports":     inFile(repeat(3, nil, 500_000)),
		"nested messages":   inFile(repeat(4, nested, 1)),
		"long package":      inFile(repeat(2, []byte(strings.Repeat("p.", 400_000)+"p"), 1)),
		"long scope":        inFile(repeat(2, []byte(strings.Repeat("p", 100_000)), 1), repeat(5, append(name("E"), values...), 1)),
		"many enum values":  inFile(repeat(2, []byte(strings.Repeat("p", maxNameBytes-10)), 1), repeat(5, append(name("E"), values...), 1)),
		"public imports":    encoded(t, setOf(ways...)),
		"chain of imports":  encoded(t, chain),
		"nested options":    inFile(repeat(8, repeat(999, repeat(999, nil, 200_000), 1), 1)),
		"unknown groups":    inFile(repeat(8, []byte(strings.Repeat("\xbb\x3e", 400_000)), 1)),
		"nested extensions": inFile(repeat(7, name("x"), 150_000)),
	}
}

func TestParse_TakesMemoryInProportion(t *testing.T) {
	for name, doc := range hostile(t) {
		require.LessOrEqual(t, len(doc), MaxBytes, name)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse(doc)
		runtime.ReadMemStats(&after)
		taken := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d KiB for %d KiB, %v", name, taken>>10, len(doc)>>10, err != nil)
		require.Less(t, taken, uint64(192<<20), name)
		if name != "nested options" { // which are bytes that nobody looks at
			require.Error(t, err, name)
		}
	}
}

func FuzzParse(f *testing.F) {
	dir := write(f, map[string]string{
		"small.proto": `syntax = "proto2"; package p; message M { optional group G = 1 { required M m = 1; } map<int32, E> e = 2;
			oneof o { bytes b = 3 [default = "\\x01"]; E v = 4 [default = ON]; } extensions 9; extend M { repeated M x = 9; } }
			enum E { OFF = 0; ON = 1; reserved 5; } service S { rpc C(M) returns (stream M.G); }`,
		"edition.proto": `edition = "2023"; option features.message_encoding = DELIMITED; import public "any.proto";
			message M { M m = 1; reserved r; repeated int32 p = 2; }`,
		"any.proto": `syntax = "proto3"; message A { optional string s = 1 [json_name = "t"]; }`,
	})
	s, err := load(f, dir, []string{"small.proto", "edition.proto"})
	require.NoError(f, err)
	for _, file := range decoded(f, s.Encode()).GetFile() {
		f.Add(encoded(f, setOf(file)))
	}
	f.Add(s.Encode())
	f.Add(encoded(f, setOf(importing(define("a.proto", "p", "M"), "b.proto"), importing(define("b.proto", "p"), "a.proto"))))
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := Parse(doc)
		if err != nil {
			return
		}
		again, err := Parse(s.Encode())
		require.NoError(t, err)
		require.Equal(t, s.Encode(), again.Encode())
		require.Equal(t, s.Methods(), again.Methods())
		s.Files().RangeFiles(func(fd protoreflect.FileDescriptor) bool {
			useAll(s, fd.Messages(), doc)
			return true
		})
	})
}

// useAll decodes data as each of the messages and asks for what is worked out late.
func useAll(s *Schema, messages protoreflect.MessageDescriptors, data []byte) {
	for i := range messages.Len() {
		md := messages.Get(i)
		m := dynamicpb.NewMessage(md)
		_ = proto.UnmarshalOptions{Resolver: s.Types(), AllowPartial: true}.Unmarshal(data[:min(len(data), 256)], m)
		_, _ = proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		for j := range md.Fields().Len() {
			fd := md.Fields().Get(j)
			_, _, _ = fd.JSONName(), fd.Default(), fd.IsMap()
			if !fd.IsMap() || fd.MapKey() != nil {
				m.NewField(fd)
			}
		}
		useAll(s, md.Messages(), data)
	}
}

func BenchmarkMethod(b *testing.B) {
	s := shop(b)
	b.ReportAllocs()
	for b.Loop() {
		s.Method("/shop.v1.Orders/Get")
	}
}

func BenchmarkParse(b *testing.B) {
	doc := shop(b).Encode()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Parse(doc)
	}
}
