// A FerretDB 1.24 that keeps its data in SQLite files: ferretdb ADDRESS FOLDER.
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
	slog.SetLogLoggerLevel(slog.LevelWarn)
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: os.Args[1]},
		Handler:   "sqlite",
		SQLiteURL: "file:" + os.Args[2] + "/?_pragma=synchronous(off)", // the tests kill it, and never the machine
	})
	if err != nil {
		log.Fatal(err)
	}
	stopped, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	server.Run(stopped)
}
