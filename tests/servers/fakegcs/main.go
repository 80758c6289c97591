// Google Cloud Storage for the tests: fake-gcs-server, with its data in memory.
//
// It speaks the JSON API and only a part of the XML API, which obstore uses. What it lacks is translated here: uploads
// with a condition, lists from a name on, and answers that name an object's generation.
//
// Arguments: the address to listen on, a file that is not used, and a bucket that is made.
package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

const noBucket = `<?xml version="1.0"?><Error><Code>NoSuchBucket</Code><Message>There is no such bucket.</Message></Error>`

type object struct {
	Name       string `json:"name" xml:"Key"`
	Generation string `json:"generation" xml:"Generation"`
	Size       string `json:"size" xml:"Size"`
	Updated    string `json:"updated" xml:"LastModified"`
	ETag       string `json:"etag" xml:"ETag"`
}

type page struct {
	XMLName  xml.Name `json:"-" xml:"ListBucketResult"`
	Contents []object `json:"items"`
	Next     string   `json:"nextPageToken" xml:"NextContinuationToken,omitempty"`
	More     bool     `json:"-" xml:"IsTruncated"`
}

type front struct{ behind http.Handler }

// ask sends a request to the JSON API.
func (f front) ask(method, path string, query url.Values, body io.Reader) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	f.behind.ServeHTTP(answer, httptest.NewRequest(method, path+"?"+query.Encode(), body))
	return answer
}

// ServeHTTP sends answers with their length and not in chunks: the proxy of the tests knows no others.
func (f front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	f.serve(answer, r)
	answer.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
	forward(w, answer)
}

func (f front) serve(w http.ResponseWriter, r *http.Request) {
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	home := "/storage/v1/b/" + bucket
	if f.ask("GET", home, nil, nil).Code != http.StatusOK {
		if r.Method == http.MethodPut && name == "" {
			content := strings.NewReader(fmt.Sprintf(`{"name":%q}`, bucket))
			f.ask("POST", "/storage/v1/b", url.Values{"project": {"test"}}, content)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, noBucket)
		return
	}
	single := home + "/o/" + url.PathEscape(name)
	switch {
	case name == "" && r.Method == http.MethodDelete:
		f.empty(home)
	case name == "":
		f.list(w, home, r.URL.Query())
	case r.Method == http.MethodPut:
		f.put(w, r, "/upload"+home+"/o", name)
	case r.Method == http.MethodDelete:
		w.WriteHeader(f.ask("DELETE", single, nil, nil).Code)
	default:
		answer := f.ask("GET", single, url.Values{"alt": {"media"}}, nil)
		if generation := answer.Header().Get("X-Goog-Generation"); generation != "" {
			answer.Header().Set("ETag", `"`+generation+`"`)
		}
		forward(w, answer)
	}
}

func (f front) put(w http.ResponseWriter, r *http.Request, path, name string) {
	query := url.Values{"uploadType": {"media"}, "name": {name}}
	if generation := r.Header.Get("X-Goog-If-Generation-Match"); generation != "" {
		query.Set("ifGenerationMatch", generation)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone, and a part of an object is none
	}
	answer := f.ask("POST", path, query, strings.NewReader(string(body)))
	if answer.Code == http.StatusOK {
		var written object
		json.Unmarshal(answer.Body.Bytes(), &written)
		w.Header().Set("ETag", `"`+written.Generation+`"`)
		w.Header().Set("X-Goog-Generation", written.Generation)
	}
	w.WriteHeader(answer.Code)
	if answer.Code != http.StatusOK {
		w.Write(answer.Body.Bytes())
	}
}

func (f front) list(w http.ResponseWriter, home string, asked url.Values) {
	after := asked.Get("start-after")
	query := url.Values{"prefix": {asked.Get("prefix")}, "startOffset": {after}, "maxResults": {"1000"}}
	query.Set("pageToken", asked.Get("continuation-token"))
	answer := f.ask("GET", home+"/o", query, nil)
	var found page
	if err := json.Unmarshal(answer.Body.Bytes(), &found); err != nil {
		forward(w, answer)
		return
	}
	if len(found.Contents) > 0 && found.Contents[0].Name == after {
		found.Contents = found.Contents[1:] // startOffset includes it, start-after does not
	}
	found.More = found.Next != ""
	xml.NewEncoder(w).Encode(found)
}

// empty removes a bucket with all that is in it.
func (f front) empty(home string) {
	for {
		var found page
		json.Unmarshal(f.ask("GET", home+"/o", nil, nil).Body.Bytes(), &found)
		for _, each := range found.Contents {
			f.ask("DELETE", home+"/o/"+url.PathEscape(each.Name), nil, nil)
		}
		if len(found.Contents) == 0 {
			f.ask("DELETE", home, nil, nil)
			return
		}
	}
}

func forward(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

func main() {
	address, bucket := os.Args[1], os.Args[3]
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true})
	if err != nil {
		log.Fatal(err)
	}
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	log.Fatal(http.ListenAndServe(address, front{server.HTTPHandler()}))
}
