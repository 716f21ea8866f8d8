package plain

import (
	"bytes"
	"io"
	"strings"
)

// Lines returns a writer of lines of text, whole ones at each call, each as Line has it.
func Lines(w io.Writer) io.Writer { return writer{w, lines} }

// JSONLines is Lines for lines of JSON.
func JSONLines(w io.Writer) io.Writer { return writer{w, jsonLines} }

func jsonLines(p []byte) []byte {
	if bytes.Contains(p, []byte("://")) {
		p = []byte(WithoutPasswords(string(p)))
	}
	return JSON(p)
}

func lines(p []byte) []byte {
	all := strings.Split(string(p), "\n")
	for i, line := range all {
		all[i] = Line(line)
	}
	return []byte(strings.Join(all, "\n"))
}

type writer struct {
	w     io.Writer
	plain func([]byte) []byte
}

// Write implements io.Writer. What it returns counts bytes of p.
func (w writer) Write(p []byte) (int, error) {
	if _, err := w.w.Write(w.plain(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}
