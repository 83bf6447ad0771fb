# Work on a run of backfill from outside of the server, with ruby-pg: a block of code for
# each batch.
#
#     require_relative "backfill_client"
#
#     status = BackfillClient.new("dbname=app", name: "mail", workers: 4).run do |conn, batch|
#       conn.exec("UPDATE contact AS batch SET n = n + 1 WHERE #{batch.condition}").cmd_tuples
#     end
#
# The block does the rows of a batch, and returns how many it did, or anything else.  It is
# called in a transaction that completes the batch, too, which makes "exactly once"; with
# apart: true in none, which makes "at least once".  See doc/clients/ruby.md.

require "pg"
require "socket"

class BackfillClient
  # Every value goes and comes as a text, whatever types the connection knows of.
  CLAIM = <<~SQL.freeze
    SELECT number::text, part::text, start_key::text, end_key::text, condition, rows::text, token,
           extract(epoch FROM retry_after)::text AS wait, reason, done::text
      FROM backfill_claim($1::bigint, $2::text, $3::text)
  SQL
  EXTEND = "SELECT backfill_extend($1::bigint, $2::bigint, $3::int, $4::text)".freeze
  COMPLETE = "SELECT backfill_complete($1::bigint, $2::bigint, $3::int, $4::text, $5::bigint)".freeze
  FAIL = "SELECT backfill_fail($1::bigint, $2::bigint, $3::int, $4::text, $5::text, $6::text, $7::bool, $8::text[])".freeze
  NEWEST = "SELECT max(id)::text AS id FROM backfill_runs WHERE name = $1::text".freeze

  NOT_OURS = "UB006".freeze       # the batch is somebody else's by now
  READ_ONLY = "25006".freeze      # the server is a standby
  LOST = "08006".freeze           # what is reported when the connection was lost
  MAY_PASS = /\A(08|40|53|57|55P03|25006)/.freeze # errors that are none of our call
  MOST_WAIT = 30                  # seconds after which to ask again, whatever the server said

  # For blocks: try the batch again later, such as when a service is down.
  class Retry < StandardError
    def retryable
      true
    end
  end

  # For blocks: the row with this key has failed, the others of the batch have not.
  class BadRow < StandardError
    attr_reader :key

    def initialize(key, message)
      super(message)
      @key = Array(key).map(&:to_s)
    end

    def retryable
      false
    end
  end

  # Told to stop while waiting for the server.
  class Stopped < StandardError; end

  # A batch in hand.  "lost" says that it is known to be somebody else's by now.
  Batch = Struct.new(:who, :number, :start_key, :end_key, :condition, :rows, :lost)

  # The SQLSTATE of an error, or of the one that it was made from; nil if there is none.
  def self.sqlstate(error)
    result = error.respond_to?(:result) ? error.result : nil
    result&.error_field(PG::PG_DIAG_SQLSTATE) || (error.cause && sqlstate(error.cause))
  end

  # Whether an error is none of our call: the connection, a shutdown, a deadlock.
  def self.may_pass?(error)
    state = sqlstate(error)
    return MAY_PASS.match?(state) if state

    [error, error.cause].any? { |e| e.is_a?(PG::ConnectionBad) || e.is_a?(PG::UnableToSend) }
  end

  # A connection that is made when it is needed, and again when it was lost.
  class Link
    attr_reader :conn

    def initialize(client, ended)
      @client, @ended = client, ended
    end

    # What the block returns: in a transaction when it is committed, otherwise each statement is.
    def use(transaction: false, &work)
      @conn ||= reach
      transaction ? @client.transaction.call(@conn, &work) : work.call(@conn)
    rescue StandardError => e
      close if @conn && (@conn.finished? || @conn.status != PG::CONNECTION_OK ||
                         BackfillClient.sqlstate(e) == READ_ONLY)
      raise
    end

    def query(sql, arguments)
      use { |conn| conn.exec_params(sql, arguments).first }
    end

    def close
      @conn.close if @conn && !@conn.finished?
    ensure
      @conn = nil
    end

    private

    def reach
      give_up = now + @client.give_up
      pause = 0.1
      begin
        @client.connect.call
      rescue StandardError => e
        raise if now > give_up || !BackfillClient.may_pass?(e)

        @client.log("cannot connect, trying again: #{e.message.strip}")
        raise Stopped if @ended.wait(pause * rand(0.5..1.0))

        pause = [pause * 2, 5].min
        retry
      end
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end

  # Something that happens once, and that any thread can wait for; a trap may set it.
  class Event
    def initialize
      @reader, @writer = IO.pipe
    end

    def set
      @writer.write_nonblock(".")
    end

    def wait(seconds)
      !@reader.wait_readable(seconds).nil?
    end

    def set?
      wait(0)
    end
  end

  attr_reader :connect, :transaction, :give_up

  # where: a connection string or hash, or something to be called that returns a new
  # connection.  lease: seconds, or "session".  give_up: for how many seconds the server may
  # be away.  transaction: what makes a transaction around a block, if not the driver.
  def initialize(where = {}, run: nil, name: nil, workers: 1, lease: 60, apart: false, worker: nil,
                 give_up: 300, transaction: nil, log: $stderr)
    raise ArgumentError, "either run or name must be given" if run.nil? == name.nil?

    @connect = where.respond_to?(:call) ? where : -> { PG.connect(where) }
    @transaction = transaction || ->(conn, &work) { conn.transaction { work.call(conn) } }
    @run, @name, @workers, @lease, @apart, @give_up, @log = run, name, workers, lease, apart, give_up, log
    @worker = worker || "#{Socket.gethostname[0, 40]}:#{Process.pid}"
    @stopping, @finished = Event.new, Event.new
    @in_hand = []
  end

  # Claim no more.  What is in hand is finished.
  def stop
    @stopping.set
  end

  def log(message)
    @log&.puts("#{Time.now.strftime('%F %T.%L')} #{message}")
  end

  # Works until the run is over, and returns the status in which it ended, or nil if stop or
  # a signal ended this.
  def run(&block)
    @block = block
    %w[TERM INT].each do |signal|
      trap(signal) do
        trap(signal, "DEFAULT") # the same signal again ends the process
        stop
      end
    end
    @run ||= newest
    hands = (1..@workers).map { |n| thread(@stopping) { |link| work(link, "#{@worker}/#{n}") } }
    heart = thread(@finished) { |link| beat(link) }
    hands.each(&:join)
    @finished.set
    heart.join
    raise @error if @error

    @status
  end

  private

  # The run; what is wrong with this connection, is wrong for good.
  def newest
    look = Thread.new do
      conn = @connect.call
      conn.exec_params(NEWEST, [@name]).first["id"]
    ensure
      conn&.close
    end
    look.report_on_exception = false
    look.value or raise ArgumentError, "no run of \"#{@name}\" is to be seen"
  end

  # A thread with a connection of its own: an error in it ends all of them.
  def thread(ended)
    Thread.new do
      link = Link.new(self, ended)
      yield link
    rescue Stopped
      nil
    rescue Exception => e # rubocop:disable Lint/RescueException
      @error ||= e
      stop
    ensure
      link.close
    end
  end

  # The loop of a worker.
  def work(link, worker)
    lease = @lease == "session" ? "session" : "#{@lease} s"
    until @stopping.set?
      begin
        row = link.query(CLAIM, [@run, worker, lease])
      rescue PG::Error => e
        raise unless BackfillClient.may_pass?(e)

        log("cannot claim, trying again: #{e.message.strip}")
        @stopping.wait(0.1)
        next
      end
      if row["done"] == "true"
        @status = row["reason"]
        break
      elsif row["wait"]
        @stopping.wait([row["wait"].to_f, MOST_WAIT].min)
      else
        attempt(link, batch_of(row))
      end
    end
  end

  def batch_of(row)
    keys = PG::TextDecoder::Array.new
    Batch.new([@run, row["number"], row["part"], row["token"]], row["number"].to_i, keys.decode(row["start_key"]),
              keys.decode(row["end_key"]), row["condition"], row["rows"].to_i, false)
  end

  # Do a batch, and say what became of it.
  def attempt(link, batch)
    @in_hand << batch
    begin
      rows = link.use(transaction: !@apart) { |conn| handle(conn, batch) }
    rescue StandardError => e
      @in_hand.delete(batch)
      failed(link, batch, e)
    else
      @in_hand.delete(batch)
      report(link, COMPLETE, [*batch.who, rows]) if @apart
    end
  end

  def handle(conn, batch)
    rows = @block.call(conn, batch)
    rows = nil unless rows.is_a?(Integer)
    conn.exec_params(COMPLETE, [*batch.who, rows]) unless @apart
    rows
  end

  # What the server has to know: by the SQLSTATE it judges what may go away by itself.
  def failed(link, batch, error)
    lost = link.conn.nil?
    state = lost ? LOST : BackfillClient.sqlstate(error)
    return log("batch #{batch.number} is not ours any more: rolled back") if state == NOT_OURS

    result = error.respond_to?(:result) ? error.result : nil
    message = result&.error_field(PG::PG_DIAG_MESSAGE_PRIMARY) || error.message.strip
    retryable = lost || (error.retryable if error.respond_to?(:retryable))
    key = PG::TextEncoder::Array.new.encode(error.key) if error.is_a?(BadRow)
    log("batch #{batch.number} has failed: #{message}")
    report(link, FAIL, [*batch.who, message, state, retryable, key])
  end

  # Say what became of a batch, again if need be: at most until its lease has run out.
  def report(link, sql, arguments)
    link.query(sql, arguments)
  rescue PG::Error => e
    return if BackfillClient.sqlstate(e) == NOT_OURS
    raise unless BackfillClient.may_pass?(e)

    sleep 0.1
    retry
  end

  # Extend the leases of what is in hand, in a session of its own: the others are busy.
  def beat(link)
    return if @lease == "session"

    until @finished.wait(@lease / 3.0)
      @in_hand.reject(&:lost).each do |batch|
        link.query(EXTEND, batch.who)
      rescue PG::Error => e
        batch.lost = BackfillClient.sqlstate(e) == NOT_OURS
        raise unless batch.lost || BackfillClient.may_pass?(e)
      end
    end
  end
end
