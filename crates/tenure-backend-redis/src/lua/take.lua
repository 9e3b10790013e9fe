
return function(k, c, i)
  begin(k, c)
  local reply = turn(i)
  finish()
  return reply
end

end
