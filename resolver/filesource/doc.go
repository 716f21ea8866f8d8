// Package filesource keeps the routes of a file in force, with the schemas that they name.
//
// Enter at Open. source.go looks for changes of the file, schemas.go for those of the schemas' files.
package filesource
