package plain

import (
	"bytes"
	"io"
	"strings"
)

// Lines returns a writer that writes each line to w as Line returns it. Each call of Write must have whole lines.
func Lines(w io.Writer) io.Writer { return writer{w, lines} }

// JSONLines is Lines for lines of JSON, which it writes as JSON returns them, with the passwords of URLs hidden.
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

// Write implements io.Writer. It returns the number of bytes of p, not of the text that it wrote.
func (w writer) Write(p []byte) (int, error) {
	if _, err := w.w.Write(w.plain(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}
