package schema

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Bounds on a schema. A bound on its bytes alone would not bound memory: a message of descriptor.proto may have two bytes on
// the wire and takes hundreds when it is decoded and linked, and each full name repeats the names around it.
const (
	maxFiles       = 2048
	maxMessages    = 1 << 16 // of descriptor.proto in all files: fields, enum values, methods, options and so on
	maxDepth       = 64      // to which such messages are nested; protoc stops at 32 messages within each other
	maxNameBytes   = 512     // of a full name
	maxNameParts   = 64      // of a full name, between its dots
	maxPublicSteps = 1 << 22 // in following public imports, see checkPublicImports
	maxInputBytes  = 16 << 20
)

var (
	errMalformed = errors.New("not a FileDescriptorSet in wire format")
	errNoFiles   = errors.New("no files, want a FileDescriptorSet with one or more")
	errTooDeep   = fmt.Errorf("messages in each other more than %d deep", maxDepth)
	errTooMany   = fmt.Errorf("more than %d fields, enum values, methods, options and so on", maxMessages)
)

// counter counts messages in wire format against maxMessages and maxDepth, before memory is taken to decode them.
type counter struct {
	messages int
}

// count counts the message in data, of type md, and the messages within it. depth is how deep it is nested itself.
func (c *counter) count(data []byte, md protoreflect.MessageDescriptor, depth int) error {
	if c.messages++; c.messages > maxMessages {
		return errTooMany
	}
	if depth > maxDepth {
		return errTooDeep
	}
	fields := md.Fields()
	return eachField(data, func(num protowire.Number, value, _ []byte) error {
		if fd := fields.ByNumber(num); value != nil && fd != nil && fd.Message() != nil {
			return c.count(value, fd.Message(), depth+1)
		}
		return nil
	})
}

// eachField calls f for the fields of a message in wire format, in order. value is the content of a length-delimited
// field, not nil, and nil for fields of other types; whole is the field with its tag.
func eachField(data []byte, f func(num protowire.Number, value, whole []byte) error) error {
	for len(data) > 0 {
		num, typ, tag := protowire.ConsumeTag(data)
		if tag < 0 {
			return errMalformed
		}
		n := protowire.ConsumeFieldValue(num, typ, data[tag:])
		if n < 0 {
			return errMalformed
		}
		var value []byte
		if typ == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(data[tag:])
			value = value[:len(value):len(value)]
		}
		if err := f(num, value, data[:tag+n]); err != nil {
			return err
		}
		data = data[tag+n:]
	}
	return nil
}

// checkFile checks a file against the bounds: its path, the number of its imports, and the full names that it declares. The
// path must be printable.
func checkFile(fd *descriptorpb.FileDescriptorProto) error {
	path := fd.GetName()
	if path == "" || len(path) > maxNameBytes || !utf8.ValidString(path) || strings.ContainsFunc(path, unicode.IsControl) {
		return fmt.Errorf("a file with the name %.64q, want a path of 1 to %d printable bytes", path, maxNameBytes)
	}
	if n := len(fd.GetDependency()); n > maxFiles {
		return fmt.Errorf("%s: %d imports, want at most %d", path, n, maxFiles)
	}
	if err := checkNames(fd.ProtoReflect(), fd.GetPackage()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// checkNames checks the full name scope, which m declares, and the full names of the declarations within m.
func checkNames(m protoreflect.Message, scope string) error {
	if len(scope) > maxNameBytes || strings.Count(scope, ".") >= maxNameParts {
		return fmt.Errorf("the name %.64q..., want at most %d bytes and %d parts", scope, maxNameBytes, maxNameParts)
	}
	var err error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !fd.IsList() || fd.Message() == nil {
			return true
		}
		name := fd.Message().Fields().ByName("name")
		if name == nil || name.Kind() != protoreflect.StringKind {
			return true
		}
		for i := 0; i < v.List().Len() && err == nil; i++ {
			declared := v.List().Get(i).Message()
			err = checkNames(declared, join(scope, declared.Get(name).String()))
		}
		return err == nil
	})
	return err
}

// join returns the full name of a declaration by its scope, which is empty outside of all packages, and its name.
func join(scope, name string) string {
	if scope == "" {
		return name
	}
	return scope + "." + name
}
