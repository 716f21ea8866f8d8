package admin

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// documentTypes are the accepted media types of documents. All are parsed as YAML, of which JSON is a subset.
var documentTypes = []string{"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "application/json"}

// readDocument calls parse with the body of a request, whose Content-Type must be one of documentTypes or absent. It waits
// if other requests are reading or parsing too many bytes.
func (wk *work) readDocument(r *http.Request, parse func([]byte) error) error {
	if err := checkDocumentType(r); err != nil {
		return err
	}
	body, read, err := wk.readBody(r)
	if err != nil {
		return err
	}
	defer read()
	parsed, err := take(r.Context(), wk.parsing, int64(len(body)))
	if err != nil {
		return err
	}
	defer parsed()
	if err := parse(body); err != nil {
		return badDocument(err)
	}
	return nil
}

func checkDocumentType(r *http.Request) error {
	if given := r.Header.Get("Content-Type"); given != "" {
		media, _, err := mime.ParseMediaType(given)
		if err != nil || !slices.Contains(documentTypes, media) {
			return &problem{status: http.StatusUnsupportedMediaType, Reason: reasonUnsupportedMediaType, Message: fmt.Sprintf("content-type: %q, want %s", given, strings.Join(documentTypes, " or "))}
		}
	}
	if given := r.Header.Get("Content-Encoding"); given != "" {
		return &problem{status: http.StatusUnsupportedMediaType, Reason: reasonUnsupportedMediaType, Message: fmt.Sprintf("content-encoding: %q, want none", given)}
	}
	return nil
}

// readBody returns the body. The caller calls done once it no longer uses the body, which frees its bytes for others.
func (wk *work) readBody(r *http.Request) (body []byte, done func(), err error) {
	size := int64(maxBodyBytes)
	if n := r.ContentLength; n >= 0 && n < size {
		size = n
	}
	done, err = take(r.Context(), wk.reading, size)
	if err != nil {
		return nil, nil, err
	}
	body, err = io.ReadAll(r.Body)
	if err == nil {
		return body, done, nil
	}
	done()
	var tooLarge *http.MaxBytesError
	if !errors.As(err, &tooLarge) {
		err = badDocument(fmt.Errorf("body: %w", err))
	}
	return nil, nil, err
}
