import de.bwaldvogel.mongo.*;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.*;
import io.netty.channel.Channel;
import java.util.*;
import org.h2.mvstore.MVStore;

/** mongo-java-server + what a CDC sink needs from a real MongoDB and the jar lacks:
 *  wire version 21, `hello`, sessions, replica-set identity, durability per command (kill -9 safe),
 *  transactions that really abort, retryable-write replay. One global lock; a test server, not a database.
 *  usage: MongoTestServer PORT (mem|FILE) (standalone|rs) [inexact-rollback] */
public class MongoTestServer extends H2Backend {
  static final Set<String> WRITES = Set.of("insert", "update", "delete", "findAndModify", "findandmodify", "create", "createIndexes", "drop", "dropDatabase", "dropIndexes", "collMod", "renameCollection");
  final MVStore store; final boolean rs; final String host;
  Object txLsid; long txNumber; boolean txOpen;            // the one open transaction
  final Map<Object, Long> ended = new HashMap<>();          // lsid -> txnNumber that was aborted by an error
  final Map<Object, Long> committed = new HashMap<>();      // lsid -> txnNumber last committed (commit is idempotent)
  final LinkedHashMap<String, Document> replies = new LinkedHashMap<>() { protected boolean removeEldestEntry(Map.Entry<String, Document> e) { return size() > 1000; } };

  MongoTestServer(MVStore store, boolean rs, String host) { super(store); this.store = store; this.rs = rs; this.host = host; }

  Document hello() {
    Document d = new Document("isWritablePrimary", true); d.put("ismaster", true); d.put("helloOk", true);
    d.put("maxBsonObjectSize", 16777216); d.put("maxMessageSizeBytes", 48000000); d.put("maxWriteBatchSize", 100000);
    d.put("localTime", java.time.Instant.now()); d.put("logicalSessionTimeoutMinutes", 30); d.put("connectionId", 1);
    d.put("minWireVersion", 0); d.put("maxWireVersion", 21); d.put("readOnly", false);
    if (rs) { d.put("setName", "rs0"); d.put("setVersion", 1); d.put("secondary", false); d.put("hosts", List.of(host)); d.put("primary", host); d.put("me", host); }
    d.put("ok", 1.0); return d;
  }
  static Document err(int code, String name, String msg, String... labels) {
    Document d = new Document("ok", 0.0); d.put("errmsg", msg); d.put("code", code); d.put("codeName", name);
    if (labels.length > 0) d.put("errorLabels", List.of(labels)); return d;
  }
  boolean exists(Channel ch, String db, String coll) {
    Document r = super.handleCommand(ch, db, "listCollections", new Document("listCollections", 1));
    for (Object d : (Iterable<?>) ((Document) r.get("cursor")).get("firstBatch")) if (coll.equals(((Document) d).get("name"))) return true;
    return false;
  }
  boolean remembers = true;                                 // false: a rollback is not exact, and updates are as fast as the library's
  final List<Document> before = new ArrayList<>();          // documents that the open transaction changes, as they were
  /** The library changes documents in place, which a rollback of the store does not take back. */
  void remember(Channel ch, String db, Document q) {
    for (Object one : (Iterable<?>) q.get("updates")) {
      Document find = new Document("find", q.get("update")); find.put("filter", ((Document) one).get("q"));
      for (Object found : (Iterable<?>) ((Document) super.handleCommand(ch, db, "find", find).get("cursor")).get("firstBatch")) {
        Document b = new Document("db", db); b.put("collection", q.get("update")); b.put("document", ((Document) found).cloneDeeply()); before.add(b);
      }
    }
  }
  void abort(Channel ch) {
    store.rollback(); txOpen = false;
    for (int i = before.size() - 1; i >= 0; i--) {
      Document b = before.get(i), document = (Document) b.get("document");
      Document update = new Document("q", new Document("_id", document.get("_id"))); update.put("u", document);
      Document command = new Document("update", b.get("collection")); command.put("updates", List.of(update));
      super.handleCommand(ch, (String) b.get("db"), "update", command);
    }
    before.clear(); store.commit();
  }

  @Override public synchronized Document handleCommand(Channel ch, String db, String command, Document q) {
    String c = command.toLowerCase(Locale.ROOT);
    if (c.equals("hello") || c.equals("ismaster")) return hello();
    if (c.equals("endsessions") || c.equals("ping")) return new Document("ok", 1.0);
    if (c.equals("killsessions")) { // a client that died leaves its transaction open; whoever takes over ends it
      for (Object id : (Iterable<?>) q.get(command)) if (txOpen && id.equals(txLsid)) abort(ch);
      return new Document("ok", 1.0);
    }
    Object lsid = q.get("lsid"); Object tn = q.get("txnNumber"); long n = tn == null ? -1 : ((Number) tn).longValue();
    boolean inTx = Boolean.FALSE.equals(q.get("autocommit")), start = Boolean.TRUE.equals(q.get("startTransaction"));
    if (tn != null && !rs) return err(20, "IllegalOperation", "Transaction numbers are only allowed on a replica set member or mongos");
    if (c.equals("committransaction") || c.equals("aborttransaction")) {
      boolean mine = txOpen && lsid.equals(txLsid) && n == txNumber;
      if (!mine && c.startsWith("commit") && Objects.equals(committed.get(lsid), n)) return new Document("ok", 1.0);
      if (!mine) return err(251, "NoSuchTransaction", "Given transaction number " + n + " does not match any in-progress transactions.", "TransientTransactionError");
      if (c.startsWith("commit")) { store.commit(); txOpen = false; committed.put(lsid, n); } else abort(ch);
      return new Document("ok", 1.0);
    }
    if (inTx) {
      if (start) {
        if (txOpen && !lsid.equals(txLsid)) return err(112, "WriteConflict", "another transaction is open (this server runs one at a time)", "TransientTransactionError");
        if (txOpen) abort(ch);
        store.commit(); before.clear(); txOpen = true; txLsid = lsid; txNumber = n;
      } else if (!txOpen || !lsid.equals(txLsid) || n != txNumber)
        return err(251, "NoSuchTransaction", "Given transaction number " + n + " does not match any in-progress transactions.", "TransientTransactionError");
    } else if (txOpen && WRITES.contains(command)) return err(112, "WriteConflict", "a transaction is open");
    if (inTx && WRITES.contains(command) && !exists(ch, db, String.valueOf(q.get(command)))) { abort(ch); // as MongoDB 4.2; rolling back a new H2 map would close it under the server
      return err(263, "OperationNotSupportedInTransaction", "Cannot create namespace " + db + "." + q.get(command) + " in multi-document transaction."); }
    String key = !inTx && tn != null && WRITES.contains(command) ? lsid + "/" + n : null;
    if (key != null && replies.containsKey(key)) return replies.get(key); // a retried write is not applied twice
    Document clean = q; if (lsid != null) { clean = q.cloneDeeply(); for (String k : List.of("lsid", "txnNumber", "autocommit", "startTransaction", "$clusterTime", "readConcern")) clean.remove(k); }
    if (inTx && remembers && c.equals("update")) remember(ch, db, clean);
    Document r;
    try { r = super.handleCommand(ch, db, command, clean); }
    catch (RuntimeException e) { if (inTx) abort(ch); else if (!txOpen) store.commit(); throw e; }
    if (inTx) { if (r.get("writeErrors") != null) abort(ch); } // a write error ends a transaction in MongoDB
    else if (WRITES.contains(command) && !txOpen) store.commit();
    if (key != null) replies.put(key, r);
    return r;
  }

  public static void main(String[] a) throws Exception {
    int port = Integer.parseInt(a[0]); MVStore.Builder b = new MVStore.Builder().autoCommitDisabled();
    if (!a[1].equals("mem")) b.fileName(a[1]);
    MongoTestServer be = new MongoTestServer(b.open(), a.length > 2 && a[2].equals("rs"), "127.0.0.1:" + port);
    be.remembers = a.length < 4 || !a[3].equals("inexact-rollback");
    be.version(new MongoVersion() { public List<Integer> getVersionArray() { return List.of(7, 0, 0); } public int getWireVersion() { return 21; } });
    MongoServer s = new MongoServer(be); s.bind("127.0.0.1", port);
    Runtime.getRuntime().addShutdownHook(new Thread(s::shutdownNow));
    System.out.println("ready " + s.getConnectionString());
  }
}
