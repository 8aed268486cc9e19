/** `gcra`, which is the token bucket too, as a part of `states`. @internal */
export const gcra = `
function makers.g()
local gcra = {}

-- What one rate owes, as what another one would: so many calls. Rounded against the caller.
local function converted(debt, from, to)
  local rest = debt % from.price
  return min(most, (debt - rest) / from.price * to.price + ceil(rest * to.price / from.price))
end

function gcra.records(value)
  local body, written, pending = parse(value)
  local trusted = written and now >= written
  local records, back = {}, written and now < written
  local pattern = '(%+?)(%d+)/(%d+)/(%d+)/(%d+):(%d+)%.?(%d*)~?(%d*)%.?(%d*)'
  for other, name, price, parts, burst, at, part, bottom, bottomPart in gmatch(body, pattern) do
    local record = { other = other ~= '', name = name, price = tonumber(price), parts = tonumber(parts), burst = burst }
    record.tolerance = record.price * burst
    record.debt = max(0, (at - now) * record.parts + (tonumber(part) or 0))
    if trusted then
      if pending and bottom ~= '' then record.bottom = (bottom - now) * record.parts + (tonumber(bottomPart) or 0) end
    elseif record.debt > record.tolerance then
      -- Nothing but a clock that went back leaves more than that.
      record.debt, back = record.tolerance, true
    end
    insert(records, record)
  end
  return records, pending, back
end

-- The state of each rate, after what was used under other rates with the same window; and the records of those others.
-- Where the key was charged last under the same rates, each state has it all.
function gcra.open(rates, value)
  local records, pending, back = gcra.records(value)
  local opened = { others = {}, from = now, pending = pending, back = back }
  local own = {}
  local same, charged = 0, 0
  for _, record in ipairs(records) do
    if not record.other then charged = charged + 1 end
    for i, rate in ipairs(rates) do
      if record.name == rate.name and record.price == rate.price and record.parts == rate.parts then
        own[i] = record
        record.own = true
        if not record.other and record.burst == rate.burst then same = same + 1 end
      end
    end
    if not record.own and record.debt > 0 then insert(opened.others, record) end
  end
  for i, rate in ipairs(rates) do
    local debt = own[i] and own[i].debt
    if same < #rates or same < charged then
      for _, record in ipairs(records) do
        if record.name == rate.name and record ~= own[i] then
          local share = min(record.debt, record.tolerance)
          local counted = min(converted(share, record, rate), rate.tolerance)
          if not debt then counted = counted + converted(record.debt - share, record, rate) end
          debt = max(debt or 0, counted)
        end
      end
    end
    opened[i] = { debt = debt or 0, bottom = own[i] and own[i].bottom }
  end
  return opened
end

function gcra.left(rate, state)
  return max(0, floor((rate.tolerance - state.debt) / rate.price))
end

function gcra.ready(rate, state, from, n)
  return now + max(0, ceil((state.debt + rate.price * n - rate.tolerance) / rate.parts))
end

-- The bottom is what reservations for a time to come need, each from its time on: what is given back does not go below.
function gcra.charge(rate, state, at, n)
  local cost = rate.price * n
  local time = (at - now) * rate.parts
  local due = state.debt + cost - rate.tolerance
  -- Of the rate that made it wait the time is known to a part, and not only to a microsecond.
  if due > time - rate.parts then time = max(0, min(due, time)) end
  state.debt = min(most, max(state.debt, time) + cost)
  if at > now then state.bottom = max(state.bottom or 0, time) + cost
  elseif state.bottom then state.bottom = state.bottom + cost end
end

function gcra.give(rate, state, from, n)
  state.debt = max(0, state.debt - rate.price * n, state.bottom or 0)
end

function gcra.drain(rate, state)
  state.debt = max(state.debt, rate.tolerance)
end

function gcra.free(rate, state)
  return now + ceil(state.debt / rate.parts)
end

local function moment(debt, parts)
  local micros = floor(debt / parts)
  return format('%d', now + micros) .. (parts > 1 and format('.%d', debt - micros * parts) or '')
end

local function recordOf(rate, state, mark)
  local bottom = state.bottom and state.bottom > 0 and '~' .. moment(state.bottom, rate.parts) or ''
  return format('%s%s/%d/%d/%s:', mark, rate.name, rate.price, rate.parts, rate.burst)
    .. moment(state.debt, rate.parts) .. bottom
end

function gcra.save(key, rates, opened)
  local records, free, others = {}, now, opened.others
  for i, rate in ipairs(rates) do
    free = max(free, gcra.free(rate, opened[i]))
    records[i] = recordOf(rate, opened[i], '')
  end
  -- Of too many others those that are used up longest.
  if #others > 16 then table.sort(others, function(a, b) return a.debt / a.parts > b.debt / b.parts end) end
  for i = 1, min(16, #others) do
    free = max(free, gcra.free(others[i], others[i]))
    insert(records, recordOf(others[i], others[i], '+'))
  end
  if free == now then
    call('DEL', key)
    return ''
  end
  local rate, state = rates[1], opened[1]
  local plain = #records == 1 and state.debt <= rate.tolerance and not opened.pending
  return put(key, plain and records[1] or long(opened.pending, records), free)
end
return gcra
end
`
