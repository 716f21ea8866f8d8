package schema

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// link makes a schema of the files in s and of the google/protobuf/*.proto that they import. The error joins the mistakes of
// all files, except of those that import a file with a mistake.
func link(s *set) (*Schema, error) {
	var wrong mistakes
	s.addWellKnown(&wrong)
	order, err := s.order()
	if err != nil {
		wrong.add(err)
		return nil, wrong.err()
	}
	s.checkDistinct(order, &wrong)
	if err := wrong.err(); err != nil {
		return nil, err
	}
	doc, err := s.document(order)
	if err != nil {
		return nil, err
	}
	if err := s.checkPublicImports(order); err != nil {
		return nil, err
	}

	files := new(protoregistry.Files)
	numbers := extensions{}
	failed := map[string]bool{}
	for _, path := range order {
		f := s.files[path]
		if slices.ContainsFunc(s.imports(f), func(dep string) bool { return failed[dep] }) {
			failed[path] = true
			continue
		}
		fd, err := protodesc.NewFile(f.proto, files)
		if err == nil {
			err = files.RegisterFile(fd)
		}
		if err != nil {
			failed[path] = true
			wrong.add(fmt.Errorf("%s: %s", s.where(path), plain(err)))
			continue
		}
		numbers.add(fd, &wrong)
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	return newSchema(files, doc), nil
}

// document returns the canonical document with the files in this order; see Schema.Encode.
func (s *set) document(order []string) ([]byte, error) {
	size := 0
	for _, path := range order {
		size += protowire.SizeTag(fieldFile) + protowire.SizeBytes(len(s.files[path].raw))
	}
	if size > MaxBytes {
		return nil, fmt.Errorf("%d bytes in %d files with their imports, want at most %d", size, len(order), MaxBytes)
	}
	doc := make([]byte, 0, size)
	for _, path := range order {
		doc = protowire.AppendTag(doc, fieldFile, protowire.BytesType)
		doc = protowire.AppendBytes(doc, s.files[path].raw)
	}
	return doc, nil
}

// plain returns the text of an error of the protobuf runtime without its prefix, which differs from build to build.
func plain(err error) string {
	return strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: ")
}
