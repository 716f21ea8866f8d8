package spec

import (
	"fmt"
	"slices"
	"strings"
)

const (
	maxSchemaFiles = 256
	maxSchemaPath  = 4096
)

// structProblems returns every mistake of the keys schema and struct, except those in rules, which are found when the rules
// are compiled.
func (r *Route) structProblems() (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch r.Mode {
	case ModeFrame:
		if r.Struct != nil {
			fail("struct: want it with mode: %s only", ModeStruct)
		}
	case ModeStruct:
		if s := r.Struct; s != nil {
			if !slices.Contains([]OnDecodeError{"", DecodeErrorReject, DecodeErrorPass}, s.OnDecodeError) {
				fail("struct.on_decode_error: %q, want %s or %s", s.OnDecodeError, DecodeErrorReject, DecodeErrorPass)
			}
			if len(s.Rules) > 0 && r.Schema == nil {
				fail("schema: missing, want one for the rules in struct.rules")
			}
		}
	default:
		fail("mode: %q, want %s or %s", r.Mode, ModeFrame, ModeStruct)
	}
	if r.Schema != nil {
		errs = append(errs, r.Schema.problems()...)
	}
	return errs
}

func (s *SchemaRef) problems() (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	set := 0
	for _, is := range []bool{s.Name != "", len(s.Files) > 0, s.Reflection} {
		if is {
			set++
		}
	}
	if set != 1 {
		fail("schema: %d of name, files and reflection, want one", set)
	}
	if s.Name != "" {
		if err := ValidateName(s.Name); err != nil {
			fail("schema.name: %w", err)
		}
	}
	if len(s.Imports) > 0 && len(s.Files) == 0 {
		fail("schema.imports: want them beside files only")
	}
	errs = append(errs, pathProblems("schema.files", s.Files)...)
	return append(errs, pathProblems("schema.imports", s.Imports)...)
}

func pathProblems(key string, paths []string) (errs []error) {
	if len(paths) > maxSchemaFiles {
		errs = append(errs, fmt.Errorf("%s: %d, want at most %d", key, len(paths), maxSchemaFiles))
	}
	for i, p := range paths {
		if p == "" || len(p) > maxSchemaPath || strings.ContainsRune(p, 0) {
			errs = append(errs, fmt.Errorf("%s[%d]: %q, want the path of a file or directory", key, i, p))
		}
	}
	return errs
}

// StoredProblems returns why a valid route cannot be stored in etcd; nil if it can.
func (r *Route) StoredProblems() error {
	if r.Schema != nil && len(r.Schema.Files) > 0 {
		return fmt.Errorf("schema.files: %q, want name or reflection: every framegate reads etcd, and not every one has the files", r.Schema.Files)
	}
	return nil
}
