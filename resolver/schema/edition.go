package schema

import (
	"slices"
	"strings"
	"text/scanner"

	"github.com/bufbuild/protocompile/ast"
	"github.com/bufbuild/protocompile/parser"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// The latest edition that protocompile knows is 2023, and the protobuf runtime knows 2024. The new features of 2024 are the
// visibility of names, the style of names and imports for options only: none of them changes how a message is encoded. So a
// source of edition 2024 is lowered: it is compiled as one of 2023, without the new features, and the result is raised to
// 2024 again. Violations of visibility and style are not reported; the compiler of the source's author does that.
const (
	newEdition = "2024"
	oldEdition = "2023" // as long as newEdition
)

// newer has the features of edition 2024 that lower took out of a source. It is nil for sources of other editions.
type newer struct {
	visibility map[int]descriptorpb.SymbolVisibility // by the offset of the keyword message or enum
	options    map[int]bool                          // by the offset of the keyword import; true for "import option"
}

// lower returns a source of edition 2024 as one of 2023, of the same length: bytes are replaced by spaces, so that positions
// in errors are right. It returns any other input as it is, with a nil newer.
func lower(source []byte) ([]byte, *newer) {
	var s scanner.Scanner
	s.Init(strings.NewReader(string(source)))
	s.Mode = scanner.ScanIdents | scanner.ScanFloats | scanner.ScanStrings | scanner.ScanChars | scanner.ScanComments | scanner.SkipComments
	s.Error = func(*scanner.Scanner, string) {} // the parser says what is wrong
	first := [3]token{next(&s), next(&s), next(&s)}
	if first[0].text != "edition" || first[1].text != "=" || strings.Trim(first[2].text, `"'`) != newEdition {
		return source, nil
	}
	out, found := slices.Clone(source), &newer{visibility: map[int]descriptorpb.SymbolVisibility{}, options: map[int]bool{}}
	copy(out[first[2].at+1:], oldEdition)
	blank := func(t token) {
		for i := range t.text {
			out[t.at+i] = ' '
		}
	}
	// A window of five tokens: the end of the declaration before, the modifier, the keyword, the name and the brace.
	for w := [5]token{{}, first[2], next(&s), next(&s), next(&s)}; w[1].text != ""; w = [5]token{w[1], w[2], w[3], w[4], next(&s)} {
		modifier, isModifier := modifiers[w[1].text]
		switch {
		case w[1].text == "import" && w[2].text == "option":
			found.options[w[1].at] = true
			blank(w[2])
		case isModifier && strings.Contains(";{}", w[0].text) && (w[2].text == "message" || w[2].text == "enum") && w[4].text == "{":
			found.visibility[w[2].at] = modifier
			blank(w[1])
		}
	}
	return out, found
}

var modifiers = map[string]descriptorpb.SymbolVisibility{
	"export": descriptorpb.SymbolVisibility_VISIBILITY_EXPORT, "local": descriptorpb.SymbolVisibility_VISIBILITY_LOCAL,
}

// token is a token of a source; its text is empty at the end.
type token struct {
	text string
	at   int
}

func next(s *scanner.Scanner) token {
	if s.Scan() == scanner.EOF {
		return token{}
	}
	return token{s.TokenText(), s.Position.Offset}
}

// drop takes out of a parsed file the features that edition 2023 does not have, and the features of single languages, since
// the compiler knows only some of them.
func (n *newer) drop(file parser.Result) {
	_ = ast.Walk(file.AST(), &ast.SimpleVisitor{DoVisitOptionNode: func(option *ast.OptionNode) error {
		if literal, ok := option.Val.(*ast.MessageLiteralNode); ok && isFeatures(option.Name) {
			for i := len(literal.Elements) - 1; i >= 0; i-- {
				if e := literal.Elements[i]; isNew(e.Name.IsExtension(), string(e.Name.Name.AsIdentifier())) {
					literal.Elements, literal.Seps = slices.Delete(literal.Elements, i, i+1), slices.Delete(literal.Seps, i, i+1)
				}
			}
		}
		return nil
	}})
	dropOptions(file.FileDescriptorProto().ProtoReflect())
}

func isFeatures(name *ast.OptionNameNode) bool {
	return len(name.Parts) == 1 && !name.Parts[0].IsExtension() && name.Parts[0].Name.AsIdentifier() == featuresName
}

const featuresName = "features"

// isNew reports whether the feature with that name is one to drop. extension is true if the name is that of an extension, as
// features of single languages are.
func isNew(extension bool, name string) bool {
	return extension || name == "enforce_naming_style" || name == "default_symbol_visibility"
}

// dropOptions takes the features to drop out of the options of m and of the messages within it. The options are not
// interpreted yet.
func dropOptions(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil || fd.IsMap():
		case !fd.IsList():
			dropOptions(v.Message())
		case fd.Message().FullName() == optionName:
			kept := m.NewField(fd).List()
			for i := range v.List().Len() {
				option := v.List().Get(i).Message().Interface().(*descriptorpb.UninterpretedOption)
				parts := option.GetName()
				if len(parts) < 2 || parts[0].GetIsExtension() || parts[0].GetNamePart() != featuresName ||
					!isNew(parts[1].GetIsExtension(), parts[1].GetNamePart()) {
					kept.Append(v.List().Get(i))
				}
			}
			m.Set(fd, protoreflect.ValueOfList(kept))
		default:
			for i := range v.List().Len() {
				dropOptions(v.List().Get(i).Message())
			}
		}
		return true
	})
}

var optionName = (*descriptorpb.UninterpretedOption)(nil).ProtoReflect().Descriptor().FullName()

// raise returns the compiled file as one of edition 2024.
func (n *newer) raise(file *ast.FileNode, compiled *descriptorpb.FileDescriptorProto) *descriptorpb.FileDescriptorProto {
	fd := proto.CloneOf(compiled)
	fd.Edition = descriptorpb.Edition_EDITION_2024.Enum()
	at := func(keyword ast.Node) int { return file.NodeInfo(keyword).Start().Offset }
	var declared []ast.Node
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.ImportNode:
			if n.options[at(d.Keyword)] {
				forOptions(fd, d.Name.AsString())
			}
		case *ast.MessageNode:
			declared = append(declared, d)
		case *ast.EnumNode:
			declared = append(declared, d)
		}
	}
	n.show(declared, fd.GetMessageType(), fd.GetEnumType(), at)
	return fd
}

// show sets the visibility of the messages and enums that are declared, and of those within them. at returns the offset of a
// keyword in the source.
func (n *newer) show(declared []ast.Node, messages []*descriptorpb.DescriptorProto, enums []*descriptorpb.EnumDescriptorProto, at func(ast.Node) int) {
	for _, d := range declared {
		switch d := d.(type) {
		case *ast.EnumNode:
			i := slices.IndexFunc(enums, func(e *descriptorpb.EnumDescriptorProto) bool { return e.GetName() == d.Name.Val })
			if v, ok := n.visibility[at(d.Keyword)]; ok && i >= 0 {
				enums[i].Visibility = v.Enum()
			}
		case *ast.MessageNode:
			i := slices.IndexFunc(messages, func(m *descriptorpb.DescriptorProto) bool { return m.GetName() == d.Name.Val })
			if i < 0 {
				continue
			}
			if v, ok := n.visibility[at(d.Keyword)]; ok {
				messages[i].Visibility = v.Enum()
			}
			var within []ast.Node
			for _, in := range d.Decls {
				switch in := in.(type) {
				case *ast.MessageNode:
					within = append(within, in)
				case *ast.EnumNode:
					within = append(within, in)
				}
			}
			n.show(within, messages[i].GetNestedType(), messages[i].GetEnumType(), at)
		}
	}
}

// forOptions turns an import of a file into one for options only.
func forOptions(fd *descriptorpb.FileDescriptorProto, path string) {
	i := int32(slices.Index(fd.Dependency, path))
	if i < 0 {
		return
	}
	fd.Dependency = slices.Delete(fd.Dependency, int(i), int(i)+1)
	fd.OptionDependency = append(fd.OptionDependency, path)
	for _, indices := range []*[]int32{&fd.PublicDependency, &fd.WeakDependency} {
		*indices = slices.DeleteFunc(*indices, func(j int32) bool { return j == i })
		for k, j := range *indices {
			if j > i {
				(*indices)[k] = j - 1
			}
		}
	}
}
