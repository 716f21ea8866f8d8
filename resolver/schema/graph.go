package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// paths returns the paths of the files, sorted.
func (s *set) paths() []string { return slices.Sorted(maps.Keys(s.files)) }

// imports returns the files of the set that a file imports, sorted, each once.
func (s *set) imports(f *file) []string {
	var deps []string
	for _, all := range [][]string{f.proto.GetDependency(), f.proto.GetOptionDependency()} {
		for _, dep := range all {
			if s.files[dep] != nil {
				deps = append(deps, dep)
			}
		}
	}
	slices.Sort(deps)
	return slices.Compact(deps)
}

// order returns the paths of the files, sorted such that each comes after those that it imports, and else by name. The error
// names the files of an import cycle.
func (s *set) order() ([]string, error) {
	sorter := sorter{set: s, done: map[string]bool{}}
	for _, path := range s.paths() {
		if err := sorter.visit(path); err != nil {
			return nil, err
		}
	}
	return sorter.order, nil
}

// sorter walks the imports depth first. The depth is bounded by maxFiles.
type sorter struct {
	set   *set
	order []string
	done  map[string]bool // false while the imports of the file are being visited
	stack []string        // the files whose imports are being visited
}

func (s *sorter) visit(path string) error {
	if done, begun := s.done[path]; done {
		return nil
	} else if begun {
		cycle := append(s.stack[slices.Index(s.stack, path):], path)
		return fmt.Errorf("%s: imports itself: %s", path, strings.Join(cycle, " -> "))
	}
	s.done[path] = false
	s.stack = append(s.stack, path)
	for _, dep := range s.set.imports(s.set.files[path]) {
		if err := s.visit(dep); err != nil {
			return err
		}
	}
	s.stack = s.stack[:len(s.stack)-1]
	s.done[path] = true
	s.order = append(s.order, path)
	return nil
}

// checkPublicImports bounds the number of steps in which the linker follows public imports. The linker takes every path from
// a file to another: if each file publicly imports two files, which both import the next one, the number of paths doubles
// each time.
func (s *set) checkPublicImports(order []string) error {
	steps := map[string]int{} // by file: to follow its public imports, and theirs in turn
	total := 0
	for _, path := range order {
		f := s.files[path].proto
		deps := f.GetDependency()
		own := len(deps)
		for _, i := range f.GetPublicDependency() {
			if 0 <= i && int(i) < len(deps) {
				own += steps[deps[i]]
			}
		}
		steps[path] = min(own, maxPublicSteps)
		for _, dep := range deps {
			total += steps[dep]
		}
		if total > maxPublicSteps {
			return fmt.Errorf("%s: public imports of public imports in more than %d ways", path, maxPublicSteps)
		}
	}
	return nil
}
