// Package filesource puts the routes of a file, with the schemas that they name, in force, and follows changes of the files.
//
// Enter at Load, Source.Apply and Source.Run. source.go reads the routes file and looks for its changes, schemas.go does so
// for the files of schemas.
package filesource
