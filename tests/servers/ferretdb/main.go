// A FerretDB 1.24 that keeps its data in PostgreSQL: ferretdb ADDRESS POSTGRESQL-URL.
//
// FerretDB's own program does not start when it is built from the module, which lacks the file with its version.
package main

import (
	"context"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	slog.SetLogLoggerLevel(slog.LevelError)
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:      ferretdb.ListenerConfig{TCP: os.Args[1]},
		Handler:       "postgresql",
		PostgreSQLURL: os.Args[2],
	})
	if err != nil {
		log.Fatal(err)
	}
	stopped, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	server.Run(stopped)
}
