// One table of jobs: what is searched for stands in columns, the rest is one JSON text. Another of
// pictures.
#include "job_store.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include "tamias/error.h"

namespace tamias::serve {
namespace {

constexpr int kVersion = 1;  // of the tables below, as PRAGMA user_version
constexpr const char* kTables =
    "CREATE TABLE IF NOT EXISTS jobs ("
    "  sequence INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  owner TEXT NOT NULL,"
    "  is_kept INTEGER NOT NULL,"
    "  status TEXT NOT NULL,"
    "  record TEXT NOT NULL);"
    "CREATE INDEX IF NOT EXISTS jobs_of_owner ON jobs (owner, sequence);"
    "CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, sequence);"
    "CREATE TABLE IF NOT EXISTS pictures (id TEXT PRIMARY KEY, file BLOB NOT NULL);";

}  // namespace

// A prepared statement, bound by position.
class JobStore::Statement {
 public:
  Statement(const JobStore& store, const char* sql) : store_(store) {
    if (sqlite3_prepare_v2(store.database_, sql, -1, &statement_, nullptr) != SQLITE_OK) {
      store.Fail("read");
    }
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(const std::string& text) {
    sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()),
                      SQLITE_TRANSIENT);
    return *this;
  }
  Statement& BindBytes(const std::string& bytes) {
    sqlite3_bind_blob64(statement_, ++bound_, bytes.data(), bytes.size(), SQLITE_STATIC);
    return *this;
  }
  Statement& Bind(int64_t number) {
    sqlite3_bind_int64(statement_, ++bound_, number);
    return *this;
  }
  // Whether there is a row.
  bool Step(const char* what) {
    const int code = sqlite3_step(statement_);
    if (code != SQLITE_ROW && code != SQLITE_DONE) store_.Fail(what);
    return code == SQLITE_ROW;
  }
  std::string Text(int column) const {
    const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    const auto size = static_cast<size_t>(sqlite3_column_bytes(statement_, column));
    return bytes == nullptr ? std::string() : std::string(bytes, size);
  }
  int64_t Number(int column) const { return sqlite3_column_int64(statement_, column); }

 private:
  const JobStore& store_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

JobStore::JobStore(const std::filesystem::path& path) : path_(path) {
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  if (sqlite3_open_v2(path.c_str(), &database_, flags, nullptr) != SQLITE_OK) {
    const std::string reason = sqlite3_errmsg(database_);
    sqlite3_close(database_);
    throw Error(ErrorCode::kIo, fmt::format("jobs: {}: cannot open: {}", path.string(), reason));
  }
  try {
    // Exclusive: two servers with one store would run each other's jobs.
    Execute("PRAGMA locking_mode=EXCLUSIVE");
    Execute("PRAGMA journal_mode=WAL");
    SetSynced(true);
    int64_t version = 0, tables = 0;
    {
      Statement statement(*this, "PRAGMA user_version");
      if (statement.Step("read")) version = statement.Number(0);
      Statement count(*this, "SELECT count(*) FROM sqlite_master");
      if (count.Step("read")) tables = count.Number(0);
    }
    if (version != kVersion && (version != 0 || tables != 0)) {
      throw Error(ErrorCode::kInvalidFile,
                  fmt::format("jobs: {}: expected jobs of version {}, found another database",
                              path.string(), kVersion));
    }
    Execute("BEGIN IMMEDIATE");
    Execute(kTables);
    Execute(fmt::format("PRAGMA user_version={}", kVersion).c_str());
    Execute("COMMIT");
  } catch (...) {
    sqlite3_close(database_);
    throw;
  }
}

JobStore::~JobStore() { sqlite3_close(database_); }

void JobStore::Fail(const char* what) const {
  const int code = sqlite3_errcode(database_);
  if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
    throw Error(ErrorCode::kIo,
                fmt::format("jobs: {}: another process has it open", path_.string()));
  }
  const bool is_foreign = code == SQLITE_NOTADB || code == SQLITE_CORRUPT;
  throw Error(
      is_foreign ? ErrorCode::kInvalidFile : ErrorCode::kIo,
      fmt::format("jobs: {}: cannot {}: {}", path_.string(), what, sqlite3_errmsg(database_)));
}

void JobStore::Execute(const char* sql) const {
  if (sqlite3_exec(database_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) Fail("write");
}

void JobStore::SetSynced(bool is_synced) {
  if (is_synced != is_synced_) {
    Execute(is_synced ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
  }
  is_synced_ = is_synced;
}

// All of its changes or none.
template <typename Change>
void JobStore::Together(bool is_synced, const Change& change) {
  SetSynced(is_synced);
  Execute("BEGIN IMMEDIATE");
  try {
    change();
    Execute("COMMIT");
  } catch (...) {
    sqlite3_exec(database_, "ROLLBACK", nullptr, nullptr, nullptr);
    throw;
  }
}

void JobStore::Insert(const Job& job, const std::string& picture) {
  const std::scoped_lock lock(mutex_);
  Together(job.is_kept, [&] {
    Statement(*this, "INSERT INTO jobs (id, owner, is_kept, status, record) VALUES (?, ?, ?, ?, ?)")
        .Bind(job.id)
        .Bind(job.owner)
        .Bind(int64_t{job.is_kept})
        .Bind(Name(job.status))
        .Bind(ToRecord(job))
        .Step("write");
    if (picture.empty()) return;
    Statement(*this, "INSERT INTO pictures (id, file) VALUES (?, ?)")
        .Bind(job.id)
        .BindBytes(picture)
        .Step("write");
  });
}

void JobStore::Update(const Job& job) {
  const std::scoped_lock lock(mutex_);
  // That a job is under way nobody needs to know after a loss of power: it begins anew.
  Together(job.HasEnded(), [&] {
    Statement(*this, "UPDATE jobs SET status = ?, record = ? WHERE id = ?")
        .Bind(Name(job.status))
        .Bind(ToRecord(job))
        .Bind(job.id)
        .Step("write");
    if (!job.HasEnded() || !job.settings.picture) return;
    Statement(*this, "DELETE FROM pictures WHERE id = ?").Bind(job.id).Step("write");
  });
}

void JobStore::Delete(const std::string& id) {
  const std::scoped_lock lock(mutex_);
  SetSynced(true);
  Statement(*this, "DELETE FROM jobs WHERE id = ?").Bind(id).Step("write");
}

// Rows of (id, owner, is_kept, status, record).
std::vector<Job> JobStore::Jobs(Statement& statement) const {
  std::vector<Job> jobs;
  while (statement.Step("read")) {
    Job job = FromRecord(statement.Text(4));
    job.id = statement.Text(0);
    job.owner = statement.Text(1);
    job.is_kept = statement.Number(2) != 0;
    job.status = JobStatusFrom(statement.Text(3));
    jobs.push_back(std::move(job));
  }
  return jobs;
}

std::optional<Job> JobStore::Find(const std::string& id) const {
  const std::scoped_lock lock(mutex_);
  Statement statement(*this, "SELECT id, owner, is_kept, status, record FROM jobs WHERE id = ?");
  std::vector<Job> jobs = Jobs(statement.Bind(id));
  if (jobs.empty()) return std::nullopt;
  return std::move(jobs.front());
}

std::string JobStore::Picture(const std::string& id) const {
  const std::scoped_lock lock(mutex_);
  Statement statement(*this, "SELECT file FROM pictures WHERE id = ?");
  return statement.Bind(id).Step("read") ? statement.Text(0) : "";
}

std::vector<Job> JobStore::List(const std::string& owner, int limit,
                                const std::string& after) const {
  const std::scoped_lock lock(mutex_);
  Statement statement(
      *this,
      "SELECT id, owner, is_kept, status, record FROM jobs WHERE owner = ?1 AND (?2 = '' OR "
      "sequence < (SELECT sequence FROM jobs WHERE id = ?2)) ORDER BY sequence DESC LIMIT ?3");
  return Jobs(statement.Bind(owner).Bind(after).Bind(int64_t{limit}));
}

std::vector<Job> JobStore::Unfinished() const {
  const std::scoped_lock lock(mutex_);
  Statement statement(*this,
                      "SELECT id, owner, is_kept, status, record FROM jobs WHERE status IN "
                      "('queued', 'in_progress') ORDER BY sequence");
  return Jobs(statement);
}

}  // namespace tamias::serve
