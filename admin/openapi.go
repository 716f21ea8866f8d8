package admin

import (
	_ "embed" // openapi.json
	"net/http"
)

// openAPIDocument describes the API in OpenAPI 3.0.
//
//go:embed openapi.json
var openAPIDocument []byte

func openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPIDocument) // its error: the client has gone
	return nil
}
