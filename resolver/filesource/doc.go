// Package filesource puts the routes of a file, with the schemas that they name, in force, and follows changes of the files.
//
// Enter at Open. source.go looks for changes of the routes file, schemas.go for changes of the schemas' files.
package filesource
