// Package replay reads calls that a mirror has recorded, lists them, and makes them again.
//
// Enter at Run and List; then source.go (the files), slots.go (how many calls are under way), call.go (one call that is made again, and
// how its answer compares) and report.go.
package replay

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/framegate/framegate/handler/mirror/tape"
)

// Torn is a file that ends within an entry.
type Torn struct{ File string }

// files returns the recordings that paths name: files, and those in directories, in the order of their names, which is that of time.
func files(paths []string) (all []string, err error) {
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			all = append(all, p)
			continue
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			return nil, err
		}
		var found []string
		for _, e := range entries {
			if e.Type().IsRegular() && strings.HasSuffix(e.Name(), tape.Suffix) {
				found = append(found, filepath.Join(p, e.Name()))
			}
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s: no file there ends in %s", p, tape.Suffix)
		}
		slices.Sort(found)
		all = append(all, found...)
	}
	return all, nil
}

// each calls do with every entry of the recordings, in order, until do fails. Files that are torn give their whole entries.
func each(paths []string, do func(*tape.Entry) error) (torn []Torn, err error) {
	all, err := files(paths)
	if err != nil {
		return nil, err
	}
	for _, name := range all {
		isTorn, err := eachOf(name, do)
		if err != nil {
			return torn, err
		}
		if isTorn {
			torn = append(torn, Torn{name})
		}
	}
	return torn, nil
}

func eachOf(name string, do func(*tape.Entry) error) (torn bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	r, err := tape.NewReader(f)
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	for {
		e, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case errors.Is(err, tape.ErrTorn):
			return true, nil
		case err != nil:
			return false, fmt.Errorf("%s: %w", name, err)
		}
		if err := do(e); err != nil {
			return false, err
		}
	}
}
