
return function(k, c, verb, member, what)
  begin(k, c)
  local reply = turn(verb, member, what)
  finish()
  return reply
end

end
