package schema

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Source is a file on disk that a schema was read from.
type Source struct {
	Path string
	Info fs.FileInfo // what the file was when it was read
}

// reader reads files from disk, up to maxInputBytes together, and notes them. It is owned by one goroutine.
type reader struct {
	left    int64 // bytes that may still be read
	sources []Source
}

// read returns the content of a regular file of at most limit bytes.
func (r *reader) read(path string, limit int64) ([]byte, fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, nil, fmt.Errorf("%s: want a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, nil, err
	}
	content, err := io.ReadAll(io.LimitReader(file, min(limit, r.left)+1))
	if err != nil {
		return nil, nil, err
	}
	size := int64(len(content))
	if size > limit {
		return nil, nil, fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	if size > r.left {
		return nil, nil, fmt.Errorf("%s: with the files before it, more than %d bytes", path, maxInputBytes)
	}
	r.left -= size
	r.sources = append(r.sources, Source{Path: path, Info: info})
	return content, info, nil
}
