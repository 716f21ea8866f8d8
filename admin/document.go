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

// documentTypes are the media types of documents that people write. All are read as YAML, of which JSON is a part.
var documentTypes = []string{"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "application/json"}

// readDocument returns the body of a request, which must be of one of documentTypes, or say nothing of its type.
func readDocument(r *http.Request) ([]byte, error) {
	if given := r.Header.Get("Content-Type"); given != "" {
		media, _, err := mime.ParseMediaType(given)
		if err != nil || !slices.Contains(documentTypes, media) {
			return nil, &problem{status: http.StatusUnsupportedMediaType, Reason: reasonUnsupportedMediaType, Message: fmt.Sprintf("content-type: %q, want %s", given, strings.Join(documentTypes, " or "))}
		}
	}
	if given := r.Header.Get("Content-Encoding"); given != "" {
		return nil, &problem{status: http.StatusUnsupportedMediaType, Reason: reasonUnsupportedMediaType, Message: fmt.Sprintf("content-encoding: %q, want none", given)}
	}
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, err
	case err != nil:
		return nil, badDocument(fmt.Errorf("body: %w", err))
	}
	return body, nil
}
